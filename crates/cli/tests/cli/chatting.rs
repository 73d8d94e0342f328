//! `amend chat` as a person uses it: at a terminal, which `script` gives it.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Scratch, amend};

/// What a terminal is told once Ctrl-C is a key of the line: that pasted text shall be marked.
const PROMPT: &str = "\u{1b}[?2004h";

const TEMPLATE: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";

/// A model that can chat, and reads and writes so much.
fn scratch(context: usize) -> Scratch {
    let scratch = Scratch::new();
    let file = scratch.model.join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    config["max_position_embeddings"] = context.into();
    fs::write(file, config.to_string()).unwrap();
    fs::write(scratch.model.join("chat_template.jinja"), TEMPLATE).unwrap();
    scratch
}

/// A chat at a terminal.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Bytes that were waited for already.
    seen: usize,
}

impl Terminal {
    /// Starts a chat and waits for its first prompt.
    fn open(scratch: &Scratch, state: &Path, more: &str) -> Self {
        // A shell that waits gets Ctrl-C as well, and some shells' exit code is then no longer the chat's.
        Self::wrapped(scratch, state, ["exec ", more, ""])
    }

    /// Also with what the shell shall do before and after.
    fn wrapped(scratch: &Scratch, state: &Path, [before, more, after]: [&str; 3]) -> Self {
        let amend = env!("CARGO_BIN_EXE_amend");
        let command = format!("{before}'{amend}' chat '{}' {more}{after}", scratch.arg());
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env("XDG_STATE_HOME", state)
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let (shown, mut output) = (Arc::new(Mutex::new(Vec::new())), child.stdout.take().unwrap());
        let keep = shown.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                keep.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        let keys = child.stdin.take().unwrap();
        let mut terminal = Terminal { child, keys, shown, seen: 0 };
        terminal.wait_for("/help lists the commands");
        terminal.wait_for(PROMPT);
        terminal
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Types a line and waits for the next prompt.
    fn enter(&mut self, keys: &str) {
        self.press(keys);
        self.press("\r");
        self.wait_for("\n");
        self.wait_for(PROMPT);
    }

    fn wait_for(&mut self, text: &str) {
        let began = Instant::now();
        loop {
            let shown = self.shown.lock().unwrap().clone();
            let new = &shown[self.seen..];
            if let Some(at) = new.windows(text.len()).position(|window| window == text.as_bytes()) {
                self.seen += at + text.len();
                return;
            }
            let told = String::from_utf8_lossy(new);
            assert!(began.elapsed() < Duration::from_secs(60), "no {text:?} in {told:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until an answer is well under way.
    fn wait_for_answer(&mut self) {
        self.wait_for("\n");
        let began = self.seen;
        while self.shown.lock().unwrap().len() < began + 40 {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The exit code, once the chat has ended by itself.
    fn ended(mut self) -> Option<i32> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(began.elapsed() < Duration::from_secs(60), "the chat does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What was asked, and by whom, in a saved conversation.
fn saved(file: &Path) -> Vec<(String, String)> {
    let record: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let turn = |m: &Value| [&m["role"], &m["content"]].map(|text| text.as_str().unwrap().to_owned());
    record["messages"].as_array().unwrap().iter().map(|m| turn(m).into()).collect()
}

fn asked(file: &Path) -> Vec<String> {
    let turns = saved(file).into_iter();
    turns.filter(|(role, _)| role == "user").map(|(_, text)| text).collect()
}

#[test]
fn lines_are_edited_and_kept_for_the_next_chat() {
    let scratch = scratch(4000);
    let state = scratch.root.join("state");
    let [first, second, third] = ["1.jsonl", "2.jsonl", "3.jsonl"].map(|name| scratch.root.join(name));
    let save = |file: &Path| format!("/save {}", file.display());
    let few = "--max-new-tokens 2";

    let mut chat = Terminal::open(&scratch, &state, few);
    chat.enter("cat\u{1}the "); // Ctrl-A
    chat.enter("the dog\u{17}mat"); // Ctrl-W
    chat.enter("hte\u{1}\u{4}\u{5}!\u{1b}[D\u{1b}[D\u{1b}[Ds"); // Ctrl-A, Ctrl-D, Ctrl-E, arrows
    chat.press("one\\\r");
    chat.wait_for(PROMPT);
    chat.enter("two");
    chat.press("\"\"\"\r");
    chat.wait_for(PROMPT);
    chat.press("/reset\\\r");
    chat.wait_for(PROMPT);
    chat.enter("four\"\"\"");
    chat.enter("\u{1b}[200~five\nsix\\\nseven\u{1b}[201~");
    chat.enter(&save(&first));
    chat.press("\u{4}");
    assert_eq!(chat.ended(), Some(0));
    let told =
        ["the cat", "the mat", "ste!", "one\ntwo", "/reset\\\nfour", "five\nsix\\\nseven"].map(String::from);
    assert_eq!(asked(&first), told);

    let file = state.join("amend/chat-history");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));

    let mut chat = Terminal::open(&scratch, &state, few);
    chat.enter("\u{1b}[A\u{1b}[A"); // The command, and before it what was pasted.
    chat.enter(" a secret");
    chat.enter(&save(&second));
    chat.press("\u{4}");
    assert_eq!(chat.ended(), Some(0));
    assert_eq!(asked(&second), ["five\nsix\\\nseven", "a secret"]);
    assert!(!fs::read_to_string(&file).unwrap().contains("secret"));

    let before = fs::read(&file).unwrap();
    let mut chat = Terminal::open(&scratch, &state, &format!("{few} --no-history"));
    chat.enter("\u{1b}[Athe cat");
    chat.enter(&save(&third));
    chat.press("\u{4}");
    assert_eq!(chat.ended(), Some(0));
    assert_eq!((asked(&third), fs::read(&file).unwrap()), (vec!["the cat".into()], before));
}

#[test]
fn ctrl_c_stops_an_answer_drops_a_line_and_leaves() {
    let scratch = scratch(1_000_000);
    let file = scratch.root.join("chat.jsonl");
    let mut chat = Terminal::open(&scratch, &scratch.root, "--max-new-tokens 900000");
    chat.press("the cat\r");
    chat.wait_for_answer();
    chat.press("\u{3}");
    chat.wait_for(PROMPT);
    chat.press("what was dropped\u{3}");
    chat.wait_for(PROMPT);
    chat.press("dropped too\\\r");
    chat.wait_for(PROMPT);
    chat.press("\u{3}");
    chat.wait_for(PROMPT);
    chat.enter(&format!("/save {}", file.display()));
    let turns = saved(&file);
    assert_eq!(turns.iter().map(|(role, _)| role.as_str()).collect::<Vec<_>>(), ["user", "assistant"]);
    assert!(turns[0].1 == "the cat" && !turns[1].1.is_empty());
    // One alone may have been meant for an answer that has just ended.
    chat.press("\u{3}");
    chat.wait_for("Ctrl-C again");
    chat.wait_for(PROMPT);
    chat.press("\u{3}");
    assert_eq!(chat.ended(), Some(0));
}

/// What ends the program from elsewhere does so whatever it does, and leaves the terminal as it was.
#[test]
fn a_terminal_is_left_as_it_was_found() {
    for answering in [false, true] {
        let scratch = scratch(1_000_000);
        let marks = scratch.root.join("marks");
        let before = format!("stty -a > {0}-before; ", marks.display());
        let after = format!("; echo $? > {0}-code; stty -a > {0}-after", marks.display());
        let more = "--max-new-tokens 900000";
        let mut chat = Terminal::wrapped(&scratch, &scratch.root, [&before, more, &after]);
        // Echoed by the editor, which is at work then.
        chat.press("the cat");
        chat.wait_for("t");
        if answering {
            chat.press("\r");
            chat.wait_for_answer();
        }
        let (shown, seen) = (chat.shown.clone(), chat.seen);
        assert!(Command::new("kill").arg(id_of(&scratch)).status().unwrap().success());
        chat.ended();
        if !answering {
            let shown = String::from_utf8_lossy(&shown.lock().unwrap()[seen..]).into_owned();
            assert!(shown.contains("\u{1b}[?2004l"), "pasted text is still marked: {shown:?}");
        }
        let read = |what: &str| fs::read_to_string(format!("{}-{what}", marks.display())).unwrap();
        assert_eq!((read("after"), read("code").trim()), (read("before"), "130"), "{answering}");
    }
}

/// The process of the chat with the scratch's model.
fn id_of(scratch: &Scratch) -> String {
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let id = entry.ok()?.file_name().into_string().ok()?;
        let words = fs::read(format!("/proc/{id}/cmdline")).ok()?;
        let mut words = words.split(|byte| *byte == 0);
        let is_ours =
            words.next()?.ends_with(b"/amend") && words.any(|word| word == scratch.arg().as_bytes());
        is_ours.then_some(id)
    });
    let all: Vec<String> = all.collect();
    assert_eq!(all.len(), 1);
    all[0].clone()
}

/// What comes from a pipe, and what is said about it.
fn piped(scratch: &Scratch, input: &str, more: &[&str]) -> (Vec<Value>, String) {
    let args = [&["chat", scratch.arg(), "--max-new-tokens", "3", "--json"], more].concat();
    let output = amend(&args).write_stdin(input).assert().code(0).get_output().clone();
    let text = String::from_utf8(output.stdout).unwrap();
    let answers = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (answers, String::from_utf8(output.stderr).unwrap())
}

#[test]
fn mistyped_commands_are_no_questions() {
    let scratch = scratch(200);
    let (answers, told) = piped(&scratch, "/sytem Be brief.\n/bananas\n", &[]);
    assert!(answers.is_empty());
    assert!(told.contains("there is no /sytem; did you mean /system? (/help lists the commands)"), "{told}");
    assert!(told.contains("there is no /bananas (/help lists the commands)"), "{told}");
    let (answers, told) = piped(&scratch, "/etc/hosts: what is it for?\n", &[]);
    assert_eq!((answers.len(), told.as_str()), (1, ""));
    let (answers, told) = piped(&scratch, "/help\n", &[]);
    assert!(answers.is_empty() && told.contains("/retry") && told.contains("/save FILE"), "{told}");
}

#[test]
fn questions_are_taken_back_and_answered_again() {
    let scratch = scratch(200);
    let file = scratch.root.join("chat.jsonl");
    let save = format!("/save {}\n", file.display());
    let warm = ["--temperature", "1"];
    let (answers, told) =
        piped(&scratch, &format!("/undo\nthe cat\nthe mat\n/undo\nthe dog\n/retry\n{save}"), &warm);
    assert_eq!(answers.len(), 4);
    assert_ne!(answers[2]["ids"], answers[3]["ids"]);
    assert_eq!(asked(&file), ["the cat", "the dog"]);
    assert_eq!(saved(&file)[3].1, answers[3]["content"].as_str().unwrap());
    assert!(told.contains("nothing has been asked yet") && told.contains("taken back: the mat"), "{told}");
    let (answers, told) = piped(&scratch, "the cat\n/retry\n", &[]);
    assert_eq!(answers[0]["ids"], answers[1]["ids"]);
    assert!(told.contains("at temperature 0 the answer is the same again"), "{told}");
    // What is there is not overwritten; a pipe is not left in the middle without a word.
    let output = amend(&["chat", scratch.arg()]).write_stdin(save).assert().code(2).get_output().clone();
    assert!(String::from_utf8_lossy(&output.stderr).contains("chat.jsonl exists"));
}

/// Lines from a pipe are questions, whatever they end in; no prompt is among the messages.
#[test]
fn a_pipe_is_read_line_by_line() {
    let scratch = scratch(200);
    let (answers, told) = piped(&scratch, "the cat\\\n\"\"\"\nthe mat\n", &[]);
    assert_eq!((answers.len(), told.as_str()), (3, ""));
    assert!(answers.iter().all(|answer| answer["finish"] == "length"), "{answers:?}");
    let output = amend(&["chat", scratch.arg(), "--max-new-tokens", "3"]).write_stdin("the cat\n").assert();
    let told = String::from_utf8(output.code(0).get_output().stderr.clone()).unwrap();
    assert!(told.contains("the answer was cut after 3 tokens; --max-new-tokens N allows more"), "{told}");
}
