//! Numbers that are conventions rather than measurements.

/// Exit code after Ctrl-C: 128 + SIGINT, by which shells and schedulers know an interruption.
pub(crate) const INTERRUPTED: u8 = 130;

/// Width that text is wrapped to where no terminal says otherwise.
pub(crate) const WIDTH: usize = 90;
