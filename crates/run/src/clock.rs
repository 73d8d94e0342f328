//! The time of day, as logs and `run.json` write it.

use std::time::SystemTime;

/// Now, UTC, RFC 3339 to the second.
pub fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Now, UTC, RFC 3339 to the millisecond.
pub fn now_to_the_millisecond() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// Seconds between two such times; nothing where one is no time or the second is the earlier.
pub fn seconds_between(start: &str, end: &str) -> Option<f64> {
    let [start, end] = [start, end].map(|time| humantime::parse_rfc3339(time).ok());
    Some(end?.duration_since(start?).ok()?.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_to_the_second_and_read_again() {
        let now = now();
        assert!(now.len() == 20 && now.ends_with('Z'), "{now}");
        assert_eq!(seconds_between(&now, &now), Some(0.0));
        let exact = now_to_the_millisecond();
        assert!(exact.len() == 24 && seconds_between(&now, &exact).is_some(), "{exact}");
        assert_eq!(seconds_between("2000-02-28T23:59:59Z", "2000-02-29T00:01:00Z"), Some(61.0));
        assert_eq!(seconds_between("2000-02-29T00:01:00Z", "2000-02-28T23:59:59Z"), None);
        assert_eq!(seconds_between("yesterday", &now), None);
    }
}
