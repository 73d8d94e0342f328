//! Who else hears of the rows of a run: programs on standard error, and TensorBoard.

use std::path::{Path, PathBuf};

use amend_run::step_log::METRICS;
use amend_run::{Run, RunError, RunFolder, StepLog, TensorBoard};
use clap::Args;

use crate::area::absolute;
use crate::console::Console;
use crate::error::Error;
use crate::events::{Decided, Metrics};

/// Where a run writes its metrics a second time.
#[derive(Clone, Debug, Args)]
pub(crate) struct TensorBoardArgs {
    /// Write metrics as event files for TensorBoard too, to DIR/NAME for the run folder NAME [default: tensorboard/ in
    /// the run folder]. A run that is resumed goes on with it
    #[arg(long, value_name = "DIR", num_args = 0..=1)]
    tensorboard: Option<Option<PathBuf>>,
}

impl TensorBoardArgs {
    /// Remembers in the run folder where its event files go, if any are asked for. Those within the folder move along
    /// with it.
    pub(crate) fn note(&self, folder: &mut RunFolder) -> Result<(), Error> {
        let dir = match &self.tensorboard {
            None => return Ok(()),
            Some(None) => PathBuf::from("tensorboard"),
            Some(Some(dir)) => absolute(dir).join(name(folder.path())),
        };
        Ok(folder.set_tensorboard(dir)?)
    }
}

/// The name of a folder, which may be given as `.`.
fn name(dir: &Path) -> PathBuf {
    let whole = dir.canonicalize().unwrap_or_else(|_| absolute(dir));
    whole.file_name().map_or_else(|| "run".into(), PathBuf::from)
}

/// From now on all who should hear of a run's rows.
pub(crate) fn attach(run: &mut Run<'_>, console: &Console) -> Result<(), Error> {
    if console.events() {
        run.metrics.listen(Box::new(Metrics(console.clone())));
        run.decisions.listen(Box::new(Decided(console.clone())));
    }
    if let Some(root) = run.folder.state().tensorboard.clone() {
        let dir = run.folder.path();
        let rows = StepLog::read(dir, METRICS).map_err(RunError::from)?;
        let board = TensorBoard::open(&dir.join(root), &rows)?;
        run.metrics.listen(Box::new(board));
    }
    Ok(())
}
