//! Metrics as TensorBoard reads them: an event file per stage, each in a folder of the stage's name, which is a run to
//! TensorBoard. They follow `metrics.jsonl` row by row and hold nothing that is not in it but the time of writing.
//!
//! An event file is a sequence of records: the length of the data (u64), its checksum, the data, its checksum; numbers
//! are little-endian, checksums masked CRC-32C. The data of a record is an `Event` in protobuf's encoding. TensorBoard's
//! readers know such a file by the word `tfevents` in its name.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::checkpoints::folder_name;
use crate::file::{FileError, at, write_atomic};
use crate::step_log::{RowListener, StepRow};

/// How the name of every file that is written here ends; others are left alone.
const OURS: &str = ".amend";

/// Records before the first row: the version of the format, and that the run begins.
const BEGINNING: usize = 2;

/// Event files of a run, kept in step with its metrics.
#[derive(Debug)]
pub struct TensorBoard {
    root: PathBuf,
    /// The file of each stage that has rows, and how many.
    stages: BTreeMap<String, (PathBuf, usize)>,
}

impl TensorBoard {
    /// Event files in the folder `root`, brought into step with `rows`, which are those of the run so far. Files that
    /// are in step already are gone on with; others are written anew, with the present as the time of their rows. Empty
    /// files go, and what an earlier run of this name has left.
    ///
    /// # Errors
    /// Where a file cannot be read or written.
    pub fn open(root: &Path, rows: &[StepRow]) -> Result<Self, FileError> {
        let mut board = TensorBoard { root: root.to_path_buf(), stages: BTreeMap::new() };
        for folder in folders(root)? {
            let stage = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let known = rows.iter().any(|row| folder_name(&row.stage) == stage);
            let (files, gone): (Vec<_>, Vec<_>) =
                our_files(&folder)?.into_iter().partition(|file| known && !is_empty(file));
            gone.iter().try_for_each(|file| fs::remove_file(file).map_err(at("remove", file)))?;
            if !known {
                // What somebody else has put there keeps the folder.
                let _ = fs::remove_dir(&folder);
            }
            if let [file] = files.as_slice() {
                let bytes = fs::read(file).map_err(at("read", file))?;
                let rows = count(&bytes).and_then(|records| records.checked_sub(BEGINNING));
                board.stages.extend(rows.map(|rows| (stage, (file.clone(), rows))));
            }
        }
        board.follow(rows)?;
        Ok(board)
    }

    /// Writes the files anew of every stage that has other rows than these, and empties those of stages without.
    fn follow(&mut self, rows: &[StepRow]) -> Result<(), FileError> {
        let mut wanted: BTreeMap<String, Vec<&StepRow>> = BTreeMap::new();
        for row in rows {
            wanted.entry(folder_name(&row.stage)).or_default().push(row);
        }
        let gone: Vec<String> =
            self.stages.keys().filter(|stage| !wanted.contains_key(*stage)).cloned().collect();
        for stage in gone {
            empty(&self.root.join(&stage), None)?;
            self.stages.remove(&stage);
        }
        for (stage, rows) in wanted {
            if self.stages.get(&stage).is_none_or(|(_, written)| *written != rows.len()) {
                self.write(stage, &rows)?;
            }
        }
        Ok(())
    }

    /// Replaces the file of a stage, by one of a later name: a TensorBoard that is looking on reads on in the one it has
    /// opened, and takes up a new one.
    fn write(&mut self, stage: String, rows: &[&StepRow]) -> Result<(), FileError> {
        let folder = self.root.join(&stage);
        fs::create_dir_all(&folder).map_err(at("create", &folder))?;
        let now = since_epoch();
        let path = folder.join(format!("events.out.tfevents.{now:014.3}{OURS}"));
        let mut bytes = record(&version(now));
        bytes.extend(record(&start(now, rows.first().map_or(0, |row| row.step))));
        rows.iter().for_each(|row| bytes.extend(record(&scalars(now, row))));
        write_atomic(&path, &bytes)?;
        empty(&folder, Some(&path))?;
        self.stages.insert(stage, (path, rows.len()));
        Ok(())
    }
}

impl RowListener for TensorBoard {
    fn logged(&mut self, row: &StepRow) -> Result<(), FileError> {
        let stage = folder_name(&row.stage);
        let Some((path, rows)) = self.stages.get_mut(&stage) else { return self.write(stage, &[row]) };
        let file = OpenOptions::new().append(true).open(&*path);
        let written = file.and_then(|mut file: File| file.write_all(&record(&scalars(since_epoch(), row))));
        written.map_err(at("write", path))?;
        *rows += 1;
        Ok(())
    }

    fn rewound(&mut self, _: &str, _: Option<u64>, kept: &[StepRow]) -> Result<(), FileError> {
        self.follow(kept)
    }
}

fn folders(root: &Path) -> Result<Vec<PathBuf>, FileError> {
    Ok(entries(root)?.into_iter().filter(|path| path.is_dir()).collect())
}

fn our_files(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let ours = |path: &PathBuf| path.to_string_lossy().ends_with(OURS);
    Ok(entries(folder)?.into_iter().filter(ours).collect())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry.map_err(at("read", folder))?.path())).collect(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(at("read", folder)(e)),
    }
}

/// Empties our files in the folder of a stage, but for one. They stay: a TensorBoard that is looking on would not get past
/// a file that is gone.
fn empty(folder: &Path, but: Option<&Path>) -> Result<(), FileError> {
    let mut files = our_files(folder)?;
    files.retain(|file| Some(file.as_path()) != but);
    files.iter().try_for_each(|file| File::create(file).map(|_| ()).map_err(at("write", file)))
}

fn is_empty(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|file| file.len() == 0)
}

/// Seconds since 1970, as TensorBoard counts time.
fn since_epoch() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// Records in an event file; nothing where it ends within one.
fn count(mut bytes: &[u8]) -> Option<usize> {
    let mut records = 0;
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        bytes = rest.get(length.checked_add(8)?..)?;
        records += 1;
    }
    Some(records)
}

/// Data with its length and checksums.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let [of_length, of_data] = [&length[..], data].map(|bytes| masked(crc32c(bytes)).to_le_bytes());
    [&length[..], &of_length, data, &of_data].concat()
}

/// CRC-32C with the polynomial's bits reversed, bit by bit: rows are short.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 * (crc & 1)))
    })
}

/// A checksum of data that holds checksums would be weak, which is why they are stored masked.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// The first event of every file: `wall_time`, `file_version`.
fn version(time: f64) -> Vec<u8> {
    [double(1, time), delimited(3, b"brain.Event:2")].concat()
}

/// `session_log` with status START: what a reader has seen of this step and later ones is no longer true.
fn start(time: f64, step: u64) -> Vec<u8> {
    [double(1, time), integer(2, step), delimited(7, &integer(1, 1))].concat()
}

/// `summary` with a value per number of the row; null stands for NaN.
fn scalars(time: f64, row: &StepRow) -> Vec<u8> {
    let values = row.values.iter().filter_map(|(name, value)| {
        let number = match value {
            Value::Null => f64::NAN,
            Value::Bool(yes) => f64::from(u8::from(*yes)),
            value => value.as_f64()?,
        };
        Some(delimited(1, &[delimited(1, name.as_bytes()), float(2, number as f32)].concat()))
    });
    let summary: Vec<u8> = values.flatten().collect();
    [double(1, time), integer(2, row.step), delimited(5, &summary)].concat()
}

/// A field's number and how it is written, as one byte; fields here are below 16.
fn key(field: u8, wire: u8) -> Vec<u8> {
    vec![field << 3 | wire]
}

fn double(field: u8, value: f64) -> Vec<u8> {
    [key(field, 1), value.to_le_bytes().to_vec()].concat()
}

fn float(field: u8, value: f32) -> Vec<u8> {
    [key(field, 5), value.to_le_bytes().to_vec()].concat()
}

/// Absent where it is zero, as the official writer has it.
fn integer(field: u8, value: u64) -> Vec<u8> {
    if value == 0 { Vec::new() } else { [key(field, 0), varint(value)].concat() }
}

fn delimited(field: u8, value: &[u8]) -> Vec<u8> {
    [key(field, 2), varint(value.len() as u64), value.to_vec()].concat()
}

/// Seven bits to a byte, the lowest first; the eighth says that more follow.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::file::hex;
    use crate::step_log::{METRICS, StepLog};

    fn row(stage: &str, step: u64, values: Value) -> StepRow {
        StepRow { stage: stage.into(), step, values: values.as_object().unwrap().clone() }
    }

    /// What `tensorboard`'s own `RecordWriter` makes of the same three events.
    #[test]
    fn bytes_are_those_of_the_official_writer() {
        let time = 1_700_000_000.5;
        let row = row("a", 300, json!({ "loss": 0.1, "done": true, "note": "a text is no number" }));
        assert_eq!(
            hex(&record(&version(time))),
            "1800000000000000a37f4b220900002040fc54d9411a0d627261696e2e4576656e743a322b353110"
        );
        assert_eq!(
            hex(&record(&start(time, 300))),
            "100000000000000095fbfe180900002040fc54d94110ac023a020801b94512a3"
        );
        assert_eq!(
            hex(&record(&scalars(time, &row))),
            "2800000000000000ff70164a0900002040fc54d94110ac022a1a0a0b0a046c6f737315cdcccc3d0a0b0a04646f6e65150000803f\
             d5ae1fb5"
        );
        assert!(scalars(time, &self::row("a", 1, json!({ "x": null }))).ends_with(&f32::NAN.to_le_bytes()));
    }

    /// A stage's file, which is the only one in its folder that holds anything.
    fn file(root: &Path, stage: &str) -> (PathBuf, Vec<u8>) {
        let mut files = our_files(&root.join(stage)).unwrap();
        files.retain(|file| !is_empty(file));
        let [file] = files.as_slice() else { panic!("{files:?}") };
        (file.clone(), fs::read(file).unwrap())
    }

    /// Rows of a stage's file.
    fn rows(root: &Path, stage: &str) -> usize {
        count(&file(root, stage).1).unwrap() - BEGINNING
    }

    #[test]
    fn files_follow_the_metrics_there_and_back() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tensorboard");
        let mut metrics = StepLog::open(dir.path(), METRICS).unwrap();
        metrics.listen(Box::new(TensorBoard::open(&root, &[]).unwrap()));
        assert!(!root.exists(), "a run without rows has none of it");
        for (stage, steps) in [("a", 2), ("b/c", 5)] {
            (1..=steps).for_each(|step| metrics.append(stage, step, &json!({ "loss": 1 })).unwrap());
        }
        assert_eq!((rows(&root, "a"), rows(&root, "b_c")), (2, 5));
        let (before, (first, _)) = (file(&root, "a"), file(&root, "b_c"));
        std::thread::sleep(std::time::Duration::from_millis(2));
        metrics.rewind("b/c", Some(3), |stage| stage == "a").unwrap();
        metrics.append("b/c", 4, &json!({ "loss": 1 })).unwrap();
        assert_eq!((rows(&root, "b_c"), file(&root, "a") == before), (4, true));
        assert!(first.exists() && is_empty(&first), "one that is looking on must get past the old file");
        metrics.rewind("b/c", None, |stage| stage == "a").unwrap();
        assert!(our_files(&root.join("b_c")).unwrap().iter().all(|file| is_empty(file)));
        metrics.append("b/c", 1, &json!({ "loss": 1 })).unwrap();
        assert!(rows(&root, "b_c") == 1 && first.exists());
        drop(TensorBoard::open(&root, &[]).unwrap());
        assert!(!root.join("b_c").exists(), "another run of this name begins afresh");
    }

    /// A process may die between a row and its event, or within the event.
    #[test]
    fn a_file_that_is_out_of_step_is_written_anew_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let all: Vec<_> = ["a", "b", "c"]
            .iter()
            .flat_map(|stage| (1..4).map(|i| row(stage, i, json!({ "x": i }))))
            .collect();
        drop(TensorBoard::open(dir.path(), &all).unwrap());
        let good = file(dir.path(), "a");
        let (behind, whole) = file(dir.path(), "b");
        let event = record(&scalars(0.0, &all[0])).len();
        fs::write(behind, &whole[..whole.len() - event]).unwrap();
        let (torn, whole) = file(dir.path(), "c");
        fs::write(torn, &whole[..whole.len() - 1]).unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/events.out.tfevents.1.someone"), "").unwrap();
        let mut board = TensorBoard::open(dir.path(), &all).unwrap();
        assert_eq!(file(dir.path(), "a"), good);
        assert_eq!((rows(dir.path(), "b"), rows(dir.path(), "c")), (3, 3));
        board.logged(&row("b", 4, json!({ "x": 4 }))).unwrap();
        assert_eq!(rows(dir.path(), "b"), 4);
        assert!(dir.path().join("d/events.out.tfevents.1.someone").exists(), "others' files stay");
    }
}
