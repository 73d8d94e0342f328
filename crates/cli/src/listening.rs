//! Who else hears of the rows of a run: programs on standard error, and TensorBoard.

use std::path::{Path, PathBuf};

use amend_run::step_log::{METRICS, RowListener, StepRow};
use amend_run::{FileError, Run, RunError, RunFolder, StepLog, TensorBoard};
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
            Some(Some(dir)) => own(&absolute(dir).join(name(folder.path())), folder.path())?,
        };
        Ok(folder.set_tensorboard(dir)?)
    }
}

/// The folder of a run's event files, or the next one where another run of its name has that: files of two would be taken
/// for one's.
fn own(dir: &Path, run: &Path) -> Result<PathBuf, Error> {
    let run = absolute(run).display().to_string();
    let mut dir = dir.to_path_buf();
    let first = dir.clone();
    for further in 2.. {
        let mark = dir.join(OF_RUN);
        match std::fs::read_to_string(&mark) {
            Ok(other) if other.trim() != run => {
                let name = first.file_name().unwrap_or_default().to_string_lossy();
                dir = first.with_file_name(format!("{name}-{further}"));
            }
            Ok(_) => break,
            Err(_) => {
                let failed = |path: &Path, action, e| Error::io(path, action, e).within("--tensorboard");
                std::fs::create_dir_all(&dir).map_err(|e| failed(&dir, "cannot create", e))?;
                std::fs::write(&mark, run + "\n").map_err(|e| failed(&mark, "cannot write", e))?;
                break;
            }
        }
    }
    Ok(dir)
}

/// The file that says whose event files are in a folder.
const OF_RUN: &str = "run.amend.txt";

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
        let mut events = EventFiles { board: None, console: console.clone() };
        match TensorBoard::open(&dir.join(root), &rows) {
            Ok(board) => events.board = Some(board),
            // Who begins a run can still choose another place.
            Err(e) if rows.is_empty() => return Err(e.into()),
            Err(e) => events.given_up(&e),
        }
        run.metrics.listen(Box::new(events));
    }
    Ok(())
}

/// Event files of a run, which goes on without them where they cannot be written any more.
struct EventFiles {
    board: Option<TensorBoard>,
    console: Console,
}

impl EventFiles {
    fn given_up(&self, why: &FileError) {
        self.console.warn(&format!("event files for TensorBoard are no longer written: {why}"));
    }

    fn tell(&mut self, tell: impl FnOnce(&mut TensorBoard) -> Result<(), FileError>) {
        if let Some(Err(e)) = self.board.as_mut().map(tell) {
            self.board = None;
            self.given_up(&e);
        }
    }
}

impl RowListener for EventFiles {
    fn logged(&mut self, row: &StepRow) -> Result<(), FileError> {
        self.tell(|board| board.logged(row));
        Ok(())
    }

    fn rewound(&mut self, stage: &str, step: Option<u64>, kept: &[StepRow]) -> Result<(), FileError> {
        self.tell(|board| board.rewound(stage, step, kept));
        Ok(())
    }
}
