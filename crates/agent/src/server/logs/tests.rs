use std::io::Write;

use super::*;

fn lines_of(text: &str) -> Lines {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    Lines { reader: BufReader::new(file), rest: Vec::new() }
}

fn rest(mut lines: Lines) -> String {
    let mut text = Vec::new();
    while let Some(line) = lines.next().unwrap() {
        text.extend(line);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn the_last_lines_begin_where_a_line_of_the_container_begins() {
    let log = ["t o F one\n", "t o P tw\n", "t o F o\n", "t o F three\n"];
    let text = log.concat();
    for (count, from) in [(0, 4), (1, 3), (2, 1), (3, 0), (100, 0)] {
        let mut lines = lines_of(&text);
        lines.skip_to_last(count).unwrap();
        assert_eq!(rest(lines), log[from..].concat(), "{count}");
    }
    let mut nothing = lines_of("");
    nothing.skip_to_last(5).unwrap();
    assert_eq!(rest(nothing), "");
}

#[test]
fn a_line_that_is_being_written_waits_for_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut writer = File::create(&path).unwrap();
    let mut lines = Lines { reader: BufReader::new(File::open(&path).unwrap()), rest: Vec::new() };
    writer.write_all(b"one\ntw").unwrap();
    assert_eq!(lines.next().unwrap().as_deref(), Some(&b"one\n"[..]));
    assert_eq!(lines.next().unwrap(), None);
    writer.write_all(b"o\n").unwrap();
    assert_eq!(lines.next().unwrap().as_deref(), Some(&b"two\n"[..]));
}

#[test]
fn no_more_is_sent_than_is_wanted() {
    let (client, mut receiver) = mpsc::channel(8);
    let mut output = Output { client: &client, block: b"abcdef".to_vec(), left: Some(4) };
    assert!(!output.send());
    assert_eq!(receiver.try_recv().unwrap(), "abcd");
}
