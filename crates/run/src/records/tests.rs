use proptest::prelude::*;

use super::*;

#[path = "../../../../tests/data.rs"]
mod data;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn read(&self, name: &str, content: impl AsRef<[u8]>) -> Result<Dataset, RecordsError> {
        Dataset::read(&[self.write(name, content)])
    }
}

fn text(text: &str) -> Record {
    Content::Text(text.into()).into()
}

/// Ids, subjects and choices are columns that tasks and methods ask for by name.
#[test]
fn nothing_that_a_file_says_is_lost() {
    let files = Files::new();
    let rows = [
        r#"{"id":7,"question":"Q?","subject":null,"answer":"A.","choices":["A.",{"b":1.5}],"paraphrased_answer":"a"}"#,
        r#"{"prompt":"p","weight":0.25,"completion":"c","tags":[]}"#,
        r#"{"messages":[{"role":"user","content":"hi","name":"Ada"},{"role":"assistant","content":"","tool_calls":[{"id":"t"}]}],"id":"x"}"#,
        r#"{"text":"t","meta":{"source":"s","page":3}}"#,
    ];
    for text in rows {
        let row: Row = serde_json::from_str(text).unwrap();
        let record = files.read("a.jsonl", text).unwrap().records.swap_remove(0);
        assert_eq!(Record::try_from(row.clone()), Ok(record.clone()));
        assert_eq!(Row::from(record), row);
    }
}

#[test]
fn conversations_of_both_layouts_are_the_same_rows() {
    let sharegpt = r#"{"conversations":[{"from":"human","value":"hi","id":3}],"id":7}"#;
    let record = Files::new().read("a.jsonl", sharegpt).unwrap().records.swap_remove(0);
    let row = Row::from(record);
    assert_eq!(
        serde_json::Value::Object(row.clone()),
        serde_json::json!({"messages": [{"role": "user", "content": "hi", "id": 3}], "id": 7})
    );
    assert!(Record::try_from(row).is_ok());
    let none = Record::try_from(Row::from_iter([("x".into(), 1.into())])).unwrap_err();
    assert!(none.contains("these fields: x"), "{none}");
}

#[test]
fn rows_are_read_whatever_their_columns() {
    let files = Files::new();
    let read = |name: &str, content: &str| Rows::read(&[files.write(name, content)], &ReadOptions::default());
    let table = r#"[{"question":"Q?","choices":["a","b"],"answer":1},{"x":null}]"#;
    let Rows { rows, sources } = read("mmlu.json", table).unwrap();
    assert_eq!(rows[0]["answer"], 1);
    assert_eq!((rows.len(), sources[0].records), (2, 2));
    assert_eq!((text_of(&rows[0], "question"), text_of(&rows[0], "answer")), (Some("Q?"), None));
    assert_eq!((texts_of(&rows[0], "choices"), texts_of(&rows[1], "x")), (vec!["a", "b"], vec![]));
    assert_eq!(read("a.txt", "one\n\ntwo\n").unwrap().rows[1]["text"], "two");
    assert!(read("a.jsonl", "{}\n[]\n").unwrap_err().to_string().contains(":2: a record must be an object"));
    assert!(Rows::read::<&Path>(&[], &ReadOptions::default()).is_err());
}

#[test]
fn every_layout_is_recognised() {
    let files = Files::new();
    let tofu = r#"{"question":"Q?","answer":"A.","perturbed_answer":["B.","C."],"paraphrased_question":"q"}"#;
    let data =
        files.read("tofu.json", format!("{tofu}\r\n\r\n{{\"question\":\"P?\",\"answer\":\"N\"}}\n")).unwrap();
    assert_eq!(data.len(), 2);
    let question = Content::Question { question: "Q?".into(), answer: "A.".into() };
    assert_eq!(data.records[0].content, question);
    assert_eq!(texts_of(&data.records[0].fields, "perturbed_answer"), ["B.", "C."]);
    assert_eq!(text_of(&data.records[0].fields, "paraphrased_question"), Some("q"));
    assert!(data.records[1].fields.is_empty());
    let said = data.reading.to_string();
    let expected = "2 records of {question, answer} from JSON lines; other fields: perturbed_answer, paraphrased_question";
    assert_eq!(said, expected);

    let data = files.read("a.jsonl", r#"{"prompt":"p","completion":"c"}"#).unwrap();
    let completion = Content::PromptCompletion { prompt: "p".into(), completion: "c".into() };
    assert_eq!(data.records, [completion.into()]);
    let message = |role: &str| Turn { role: role.into(), content: "hi".into(), fields: Row::new() };
    let data = files.read("a.jsonl", r#"{"messages":[{"role":"system","content":"hi"}]}"#).unwrap();
    assert_eq!(data.records, [Content::Messages(vec![message("system")]).into()]);
    let sharegpt = r#"[{"conversations":[{"from":"human","value":"hi"},{"from":"gpt","value":"hi"}]}]"#;
    let data = files.read("a.json", sharegpt).unwrap();
    assert_eq!(data.records, [Content::Messages(vec![message("user"), message("assistant")]).into()]);
    assert_eq!(data.reading.format, Format::JsonArray);
    let data = files.read("a.json", "\u{feff} [\n{\"text\":\"t\"},\n{\"text\":\"u\"}]\n").unwrap();
    assert_eq!(data.records, [text("t"), text("u")]);
    let data = files.read("bom.jsonl", "\u{feff}{\"text\":\"t\"}").unwrap();
    assert_eq!(data.records, [text("t")]);
}

#[test]
fn plain_text_is_cut_at_blank_lines_or_not_at_all() {
    let files = Files::new();
    let path = files.write("a.txt", "one\ntwo\r\n\n \nthree\n");
    let data = Dataset::read(&[&path]).unwrap();
    assert_eq!(data.records, [text("one\ntwo"), text("three")]);
    assert_eq!(data.reading.to_string(), "2 records from plain text");
    let whole = ReadOptions { text_unit: TextUnit::WholeFile, ..ReadOptions::default() };
    let data = Dataset::read_with(&[&path], &whole).unwrap();
    assert_eq!(data.records, [text("one\ntwo\n\n \nthree")]);
}

#[test]
fn several_files_are_one_data_set_with_its_hashes() {
    let files = Files::new();
    let paths = [files.write("a.jsonl", "{\"text\":\"abc\"}\n"), files.write("b.txt", "abc")];
    let data = Dataset::read(&paths).unwrap();
    assert_eq!(data.len(), 2);
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(data.sources[1].sha256, abc);
    assert_eq!(Dataset::read(&paths[1..]).unwrap().sha256(), abc);
    assert_ne!(data.sha256(), abc);
    assert_eq!(crate::file::content_hash(&paths[0]).unwrap(), data.sources[0].sha256);
    let array = files.write("c.json", "[{\"text\":\"x\"}]  \n");
    let data = Dataset::read(&[&array]).unwrap();
    assert_eq!(data.sha256(), crate::file::content_hash(&array).unwrap());
}

#[test]
fn errors_name_file_line_and_what_is_meant() {
    let files = Files::new();
    let good = "{\"question\":\"q\",\"answer\":\"a\"}\n";
    let cases: &[(&str, &[u8], &[&str])] = &[
        ("empty.json", b"", &["empty.json: the file holds no records"]),
        ("blank.jsonl", b"\n \n", &["no records"]),
        ("list.json", b"[]", &["no records"]),
        (
            "bad.json",
            b"{\"question\":\"q\",\"answer\":\"a\"}\n{\"question\":tru}\n",
            &[":2:16: malformed JSON"],
        ),
        ("half.json", b"{\n  \"text\": \"a\"\n}\n", &[":1:1: malformed", "one whole object"]),
        ("word.json", b"hello\n", &[":1:1: malformed", "named .txt"]),
        (
            "miss.json",
            b"{\"question\":\"q\",\"answer\":\"a\"}\n{\"question\":\"q\",\"anwser\":\"a\"}\n",
            &[":2: missing field `answer`", "is `anwser` meant to be `answer`?"],
        ),
        (
            "first.json",
            b"{\"promt\":\"q\",\"completion\":\"a\"}\n",
            &[":1: no known", "is `promt` meant to be `prompt`?"],
        ),
        (
            "mixed.json",
            b"{\"text\":\"q\"}\n\n{\"prompt\":\"q\",\"completion\":\"a\"}\n",
            &[":3: a record of {prompt, completion} among records of {text}", "mixed.json:1)"],
        ),
        (
            "type.json",
            b"{\"question\":\"q\",\"answer\":3}\n",
            &[":1: field `answer` must be a string, found a number"],
        ),
        (
            "wrong.json",
            b"{\"question\":\"q\",\"answer\":\"a\",\"perturbed_answer\":[\"b\",1]}\n",
            &[":1: field `perturbed_answer` must be a list of strings, found a number in it"],
        ),
        (
            "other.json",
            b"{\"question\":\"q\",\"answer\":\"a\",\"paraphrased_answer\":[]}\n",
            &[":1: field `paraphrased_answer` must be a string, found a list"],
        ),
        ("array.json", b"[{\"text\":\"q\"},\n{\"text\":\n 3}]", &[":3: field `text` must be a string"]),
        ("cut.json", b"[{\"text\":\"q\"},\n{\"text\":", &[":2:8: malformed JSON: EOF"]),
        ("tail.json", b"[{\"text\":\"q\"}] x", &[":1:16: malformed JSON: trailing"]),
        ("chat.jsonl", b"{\"messages\":[{\"role\":\"user\"}]}", &["messages[0]: missing field `content`"]),
        ("chat0.jsonl", b"{\"messages\":[]}", &["field `messages` is empty"]),
        ("utf.jsonl", b"{\"text\":\"a\"}\n{\"text\":\"\xff\"}\n", &[":2:10: the line is not UTF-8"]),
        ("utf.json", b"[{\"text\":\"\xff\"}]\n", &["malformed JSON: invalid unicode"]),
        ("scalar.jsonl", b"3\n", &[":1: a record must be an object, found a number"]),
        ("a.parquet", b"PAR1....", &["Parquet", "JSON lines"]),
    ];
    for (name, content, words) in cases {
        let error = files.read(name, content).unwrap_err().to_string();
        for word in *words {
            assert!(error.contains(word), "{name}: {error}");
        }
        assert!(error.contains(name), "{error}");
    }
    let both = [files.write("q.json", good), files.write("t.txt", "text")];
    assert!(Dataset::read(&both).unwrap_err().to_string().contains("q.json:1"));
    assert!(Dataset::read(&[files.0.path()]).unwrap_err().to_string().contains("folder"));
    assert!(Dataset::read(&[files.0.path().join("none")]).unwrap_err().to_string().contains("cannot read"));
    assert!(Dataset::read::<&Path>(&[]).is_err());
}

#[test]
fn a_line_beyond_the_limit_is_refused_without_reading_it() {
    let files = Files::new();
    let options = ReadOptions { longest_line: 100, ..ReadOptions::default() };
    let long = format!("{{\"text\":\"a\"}}\n{{\"text\":\"{}\"}}\n", "x".repeat(200));
    let error = Dataset::read_with(&[files.write("a.jsonl", &long)], &options).unwrap_err().to_string();
    assert!(error.contains(":2: the line is longer than 100 bytes"), "{error}");
    let long = format!("[{{\"text\":\"a\"}},\n{{\"text\":\"{}\"}}]\n", "x".repeat(200));
    let error = Dataset::read_with(&[files.write("a.json", &long)], &options).unwrap_err().to_string();
    assert!(error.contains(":2: cannot read the file: a record is longer than 100 bytes"), "{error}");
    let many = format!("[{}{{\"text\":\"a\"}}]", "{\"text\":\"a\"},".repeat(100));
    assert_eq!(Dataset::read_with(&[files.write("a.json", &many)], &options).unwrap().len(), 101);
}

#[test]
fn overlap_ignores_white_space_and_nothing_else() {
    let question = |answer: &str, wrong: &[&str]| Record {
        content: Content::Question { question: "q".into(), answer: answer.into() },
        fields: Row::from_iter([("perturbed_answer".to_owned(), wrong.into())]),
    };
    let a = [text("a  b\n"), text("A b"), question("yes", &[]), text("a b")];
    let b = [question("yes", &["no"]), text(" a b"), text("a b"), question("no", &[])];
    assert_eq!(overlap(&a, &b), [(0, 1), (2, 0), (3, 1)]);
}

#[test]
#[cfg_attr(not(test_data), ignore = "its data is not there")]
fn the_official_tofu_files() {
    let tofu = data::test_data().join("tasks/tofu");
    let read = |name: &str| Dataset::read(&[tofu.join(name)]).unwrap();
    let (forget, retain) = (read("forget05.json"), read("retain95.json"));
    assert_eq!((forget.len(), retain.len()), (200, 3800));
    assert!(overlap(&forget.records, &retain.records).is_empty());
    assert_eq!(overlap(&forget.records, &read("full.json").records).len(), 200);
    let perturbed = read("forget05_perturbed.json");
    let fields = &perturbed.records[0].fields;
    assert!(text_of(fields, "paraphrased_answer").is_some());
    assert_eq!(texts_of(fields, "perturbed_answer").len(), 5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn damaged_files_never_panic(
        cuts in proptest::collection::vec((0usize..200, 0usize..10, proptest::collection::vec(any::<u8>(), 0..4)), 0..5),
        name in prop::sample::select(vec!["a.jsonl", "a.json", "a.txt"]),
        array in any::<bool>(),
    ) {
        let lines = "{\"question\":\"q\\u00e9\",\"answer\":\"a\"},\n{\"question\":\"p\",\"answer\":\"b\"}";
        let mut bytes = if array { format!("[{lines}]") } else { lines.replace("},", "}") }.into_bytes();
        for (start, count, insert) in cuts {
            let start = start.min(bytes.len());
            let end = (start + count).min(bytes.len());
            bytes.splice(start..end, insert);
        }
        let files = Files::new();
        match files.read(name, &bytes) {
            Ok(data) => prop_assert_eq!(data.sha256(), hex(&Sha256::digest(&bytes))),
            Err(error) => prop_assert!(error.to_string().contains(name)),
        }
    }

    #[test]
    fn written_records_are_read_back(texts in proptest::collection::vec("\\PC{0,20}", 1..8), array in any::<bool>()) {
        let objects: Vec<String> =
            texts.iter().map(|text| serde_json::json!({ "text": text }).to_string()).collect();
        let content = if array { format!("[{}]", objects.join(",\n")) } else { objects.join("\n") };
        let data = Files::new().read("a.json", content).unwrap();
        let expected: Vec<Record> = texts.iter().map(|s| text(s)).collect();
        prop_assert_eq!(data.records, expected);
    }
}
