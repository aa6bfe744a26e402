//! Cutting the bytes of an answer into single objects as they arrive, so that memory holds one object of a list or
//! watch and never all of it.

/// The longest text of one object. The API server itself refuses objects far smaller than this.
pub(super) const MAX_OBJECT_BYTES: usize = 16 << 20;

/// The lines of a watch. What has no end of line yet is kept, and lost when the connection is cut.
#[derive(Debug, Default)]
pub(super) struct Lines {
    partial: Vec<u8>,
    too_long: bool,
}

/// A line, or the fact that one was left out because it is longer than [`MAX_OBJECT_BYTES`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Text(&'a [u8]),
    TooLong,
}

impl Lines {
    /// Calls `each` for every line that `chunk` completes; stops at its first error.
    pub(super) fn push<E>(
        &mut self,
        chunk: &[u8],
        mut each: impl FnMut(Line<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            if self.too_long || self.partial.len() + line.len() > MAX_OBJECT_BYTES {
                self.too_long = false;
                self.partial = Vec::new();
                each(Line::TooLong)?;
            } else if self.partial.is_empty() {
                each(Line::Text(line))?;
            } else {
                self.partial.extend_from_slice(line);
                each(Line::Text(&self.partial))?;
                release(&mut self.partial);
            }
        }
        if self.partial.len() + rest.len() > MAX_OBJECT_BYTES {
            self.too_long = true;
            self.partial = Vec::new();
        }
        if !self.too_long {
            self.partial.extend_from_slice(rest);
        }
        Ok(())
    }
}

/// Empties a buffer and, if one large object made it grow, gives its memory back.
fn release(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(64 << 10);
}

/// A list's answer is broken: it ended too soon, or it is not the JSON of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ListError {
    #[error("the answer ended in the middle of the list")]
    Incomplete,
    #[error("the answer is not a list")]
    NotAList,
}

/// The items of a list, `{"metadata":{…},"items":[{…},…]}`, found by counting brackets outside of strings; each
/// item's text is checked when it is decoded.
#[derive(Debug, Default)]
pub(super) struct ListItems {
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// The key at depth 1 whose value is being read, while it is being read and after.
    key: Vec<u8>,
    reading_key: bool,
    capture: Option<Capture>,
    captured: Vec<u8>,
    metadata: Vec<u8>,
    complete: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Capture {
    Item,
    Metadata,
}

impl ListItems {
    /// Calls `each` with the text of every item that `chunk` completes.
    pub(super) fn push(&mut self, chunk: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), ListError> {
        let mut from = 0;
        for (at, &byte) in chunk.iter().enumerate() {
            if self.in_string {
                self.string_byte(byte);
                continue;
            }
            match byte {
                b'"' => {
                    self.in_string = true;
                    if self.depth == 1 && self.reading_key {
                        self.key.clear();
                    }
                }
                b':' if self.depth == 1 => self.reading_key = false,
                b',' if self.depth == 1 => self.reading_key = true,
                b'{' | b'[' if self.open(byte)? => from = at,
                b'{' | b'[' => {}
                b'}' | b']' => {
                    if let Some(capture) = self.close()? {
                        self.finish_capture(capture, &chunk[from..=at], &mut each);
                    }
                }
                _ if self.depth == 0 && !byte.is_ascii_whitespace() => return Err(ListError::NotAList),
                _ => {}
            }
        }
        if self.capture.is_some() {
            self.captured.extend_from_slice(&chunk[from..]);
            if self.captured.len() > MAX_OBJECT_BYTES {
                return Err(ListError::NotAList);
            }
        }
        Ok(())
    }

    fn string_byte(&mut self, byte: u8) {
        if self.escaped {
            self.escaped = false;
        } else if byte == b'\\' {
            self.escaped = true;
        } else if byte == b'"' {
            self.in_string = false;
            return;
        }
        if self.depth == 1 && self.reading_key && self.key.len() < 16 {
            self.key.push(byte);
        }
    }

    /// True if an item or the metadata begins here.
    fn open(&mut self, bracket: u8) -> Result<bool, ListError> {
        if self.depth == 0 {
            if bracket != b'{' || self.complete {
                return Err(ListError::NotAList);
            }
            self.reading_key = true;
        }
        let starts = match (self.depth, self.key.as_slice()) {
            (1, b"metadata") => Some(Capture::Metadata),
            (2, b"items") => Some(Capture::Item),
            _ => None,
        };
        self.depth += 1;
        if self.capture.is_some() || starts.is_none() {
            return Ok(false);
        }
        self.capture = starts;
        Ok(true)
    }

    /// What ends here, if anything that is captured does.
    fn close(&mut self) -> Result<Option<Capture>, ListError> {
        self.depth = self.depth.checked_sub(1).ok_or(ListError::NotAList)?;
        self.complete = self.depth == 0;
        let ends = match self.capture {
            Some(Capture::Metadata) => self.depth == 1,
            Some(Capture::Item) => self.depth == 2,
            None => false,
        };
        Ok(if ends { self.capture.take() } else { None })
    }

    fn finish_capture(&mut self, capture: Capture, tail: &[u8], each: &mut impl FnMut(&[u8])) {
        match capture {
            Capture::Item if self.captured.is_empty() => each(tail),
            Capture::Item => {
                self.captured.extend_from_slice(tail);
                each(&self.captured);
            }
            Capture::Metadata => {
                self.captured.extend_from_slice(tail);
                self.metadata = self.captured.clone();
            }
        }
        release(&mut self.captured);
    }

    /// At the end of the answer: the text of the list's own metadata.
    pub(super) fn finish(self) -> Result<Vec<u8>, ListError> {
        if self.complete { Ok(self.metadata) } else { Err(ListError::Incomplete) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#" {"kind":"ServiceList","items":[{"a":"}]\"{"},
        {"metadata":{"items":[1]}, "b":[[],{}]} ],"metadata":{"resourceVersion":"7","x":{}}} "#;

    fn items_of(list: &str, cut: usize) -> (Vec<String>, Result<Vec<u8>, ListError>) {
        let mut items = Vec::new();
        let mut reader = ListItems::default();
        let (first, second) = list.as_bytes().split_at(cut);
        for chunk in [first, second] {
            reader.push(chunk, |item| items.push(String::from_utf8(item.to_vec()).unwrap())).unwrap();
        }
        (items, reader.finish())
    }

    #[test]
    fn items_are_found_wherever_the_chunks_are_cut() {
        for cut in 0..=LIST.len() {
            let (items, metadata) = items_of(LIST, cut);
            assert_eq!(
                items,
                [r#"{"a":"}]\"{"}"#, r#"{"metadata":{"items":[1]}, "b":[[],{}]}"#],
                "cut at {cut}"
            );
            assert_eq!(metadata.unwrap(), br#"{"resourceVersion":"7","x":{}}"#);
        }
    }

    #[test]
    fn a_list_that_ends_early_is_incomplete() {
        for end in 0..LIST.trim_end().len() {
            assert_eq!(items_of(&LIST[..end], 0).1, Err(ListError::Incomplete), "end at {end}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in ["<html>", "[]", "}", "{}{}", "null"] {
            assert_eq!(
                ListItems::default().push(text.as_bytes(), |_| ()),
                Err(ListError::NotAList),
                "{text}"
            );
        }
        let (items, metadata) = items_of(r#"{"items":null}"#, 3);
        assert!(items.is_empty() && metadata.unwrap().is_empty());
    }

    #[test]
    fn lines_are_found_wherever_the_chunks_are_cut() {
        let text = b"one\n\ntwo\nthr";
        for cut in 0..=text.len() {
            let mut lines = Lines::default();
            let mut seen = Vec::new();
            for chunk in [&text[..cut], &text[cut..]] {
                let each = |line: Line<'_>| {
                    let Line::Text(line) = line else { panic!("too long") };
                    seen.push(String::from_utf8(line.to_vec()).unwrap());
                    Ok::<(), ()>(())
                };
                lines.push(chunk, each).unwrap();
            }
            assert_eq!(seen, ["one", "", "two"], "cut at {cut}");
        }
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory_and_is_left_out() {
        let mut lines = Lines::default();
        let block = vec![b'x'; 1 << 20];
        let mut seen = Vec::new();
        for _ in 0..20 {
            lines.push(&block, |_| Ok::<(), ()>(())).unwrap();
            assert!(lines.partial.capacity() <= 2 * MAX_OBJECT_BYTES);
        }
        let each = |line: Line<'_>| {
            seen.push(line == Line::TooLong);
            Ok::<(), ()>(())
        };
        lines.push(b"\nok\n", each).unwrap();
        assert_eq!(seen, [true, false]);
    }
}
