//! Counts the requests of a client, by reading them on their way.

use std::collections::BTreeMap;

/// Traffic of one proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Traffic {
    pub connections: u64,
    /// Requests by method, where they can be read.
    pub requests: Option<BTreeMap<String, u64>>,
    pub bytes_to_server: u64,
    pub bytes_from_server: u64,
}

impl Traffic {
    pub fn all_requests(&self) -> Option<u64> {
        Some(self.requests.as_ref()?.values().sum())
    }

    /// The traffic since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let former = |method: &String| before.requests.as_ref().and_then(|requests| requests.get(method));
        let less = |(method, count): (&String, &u64)| {
            let count = count - former(method).unwrap_or(&0);
            (count > 0).then(|| (method.clone(), count))
        };
        Self {
            connections: self.connections - before.connections,
            requests: self.requests.as_ref().map(|requests| requests.iter().filter_map(less).collect()),
            bytes_to_server: self.bytes_to_server - before.bytes_to_server,
            bytes_from_server: self.bytes_from_server - before.bytes_from_server,
        }
    }
}

/// Reads one connection's requests (RFC 9112): separates heads from bodies, keeps only the current head.
#[derive(Debug, Default)]
pub struct Reader {
    state: State,
    /// The head, or the line with a chunk's size, as far as received.
    line: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Head,
    /// This many bytes of a body.
    Body(u64),
    /// The line with the length of the next chunk.
    Size,
    /// This many bytes of a chunk and its line end.
    Chunk(u64),
    /// The lines after the last chunk.
    Trailer,
}

impl Reader {
    /// Adds the next bytes; calls `seen` with each method.
    pub fn feed(&mut self, mut bytes: &[u8], seen: &mut impl FnMut(&str)) {
        while !bytes.is_empty() {
            match self.state {
                State::Body(left) => self.state = pass(&mut bytes, left, State::Body, State::Head),
                State::Chunk(left) => self.state = pass(&mut bytes, left, State::Chunk, State::Size),
                State::Head | State::Size | State::Trailer => self.text(&mut bytes, seen),
            }
        }
    }

    fn text(&mut self, bytes: &mut &[u8], seen: &mut impl FnMut(&str)) {
        let (byte, rest) = (bytes[0], &bytes[1..]);
        *bytes = rest;
        self.line.push(byte);
        let (is_line, is_blank) = (self.line.ends_with(b"\r\n"), self.line.ends_with(b"\r\n\r\n"));
        self.state = match self.state {
            State::Head if is_blank => head(&String::from_utf8_lossy(&self.line), seen),
            State::Size if is_line => size(&String::from_utf8_lossy(&self.line)),
            // A trailer is an empty line, or lines with an empty line after them.
            State::Trailer if is_blank || self.line == b"\r\n" => State::Head,
            _ => return,
        };
        self.line.clear();
    }
}

fn pass(bytes: &mut &[u8], left: u64, more: fn(u64) -> State, then: State) -> State {
    let passed = (bytes.len() as u64).min(left);
    *bytes = &bytes[passed as usize..];
    if passed == left { then } else { more(left - passed) }
}

fn head(head: &str, seen: &mut impl FnMut(&str)) -> State {
    seen(head.split(' ').next().unwrap_or_default());
    for line in head.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        match (name.to_ascii_lowercase().as_str(), value.trim()) {
            ("transfer-encoding", "chunked") => return State::Size,
            ("content-length", length) if length != "0" => return State::Body(length.parse().unwrap_or(0)),
            _ => {}
        }
    }
    State::Head
}

fn size(line: &str) -> State {
    let digits = line.trim().split(';').next().unwrap_or_default();
    match u64::from_str_radix(digits, 16) {
        Ok(0) | Err(_) => State::Trailer,
        Ok(size) => State::Chunk(size + 2),
    }
}

#[test]
fn requests_with_every_kind_of_body_are_counted_however_they_are_split() {
    let text = b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n\
        PUT /b HTTP/1.1\r\nContent-Length: 20\r\n\r\nGET / HTTP/1.1\r\n\r\n..\
        PATCH /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nHEAD \r\na\r\nPUT / HTTP\r\n0\r\n\r\n\
        POST /d HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n!\r\n0\r\nX: y\r\n\r\n\
        HEAD /e HTTP/1.1\r\nContent-Length: 0\r\n\r\n";
    for cut in 0..text.len() {
        let (mut reader, mut methods) = (Reader::default(), Vec::new());
        for part in [&text[..cut], &text[cut..]] {
            reader.feed(part, &mut |method| methods.push(method.to_owned()));
        }
        assert_eq!(methods, ["GET", "PUT", "PATCH", "POST", "HEAD"], "cut at {cut}");
    }
}
