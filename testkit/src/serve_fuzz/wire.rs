//! Connections that may carry anything, and answers that must be HTTP.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// One answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the body is shorter than its announced length, for instance in an answer to HEAD.
    pub is_bare: bool,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn head_contains(&self, text: &str) -> bool {
        self.headers.iter().any(|(name, value)| name.contains(text) || value.contains(text))
    }

    /// Whether another request may follow on the connection.
    pub fn keeps(&self) -> bool {
        !self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// The part of the bytes that is readable as answers.
#[derive(Debug)]
pub enum Reading {
    /// All of them, to the last byte.
    Whole(Vec<Answer>),
    /// The last answer is incomplete.
    Begun(Vec<Answer>),
    Malformed(String),
}

/// Reads `bytes` as answers to requests of which `heads` says whether they are HEAD.
///
/// Where a server may have seen other requests than intended, `is_sure` is false: then every answer may be without a body.
pub fn read(bytes: &[u8], heads: &[bool], is_sure: bool) -> Reading {
    let is_head = heads.first().copied().unwrap_or_default();
    if bytes.is_empty() {
        return Reading::Whole(Vec::new());
    }
    let rest = heads.get(1..).unwrap_or_default();
    let first = read_with(bytes, is_head, rest, heads, is_sure);
    // By chance an answer to HEAD may announce just the length of the answers that follow it.
    let holds_answers = |answers: &[Answer]| answers.first().is_some_and(|first| first.body.starts_with(b"HTTP/1."));
    if is_sure || matches!(&first, Reading::Whole(answers) if !holds_answers(answers)) {
        return first;
    }
    match read_with(bytes, !is_head, rest, heads, is_sure) {
        other @ Reading::Whole(_) => other,
        other @ Reading::Begun(_) if matches!(first, Reading::Malformed(_)) => other,
        _ => first,
    }
}

fn read_with(bytes: &[u8], is_head: bool, rest: &[bool], heads: &[bool], is_sure: bool) -> Reading {
    match one(bytes, is_head) {
        Err(why) => Reading::Malformed(why),
        Ok(None) => Reading::Begun(Vec::new()),
        Ok(Some((answer, used))) => {
            let is_interim = answer.status < 200;
            let heads = if is_interim { heads } else { rest };
            let before = |mut later: Vec<Answer>| {
                later.splice(0..0, (!is_interim).then(|| answer.clone()));
                later
            };
            match read(&bytes[used..], heads, is_sure) {
                Reading::Whole(later) => Reading::Whole(before(later)),
                Reading::Begun(later) => Reading::Begun(before(later)),
                malformed @ Reading::Malformed(_) => malformed,
            }
        }
    }
}

/// Returns the first answer in `bytes` and its length. None if it is incomplete.
fn one(bytes: &[u8], is_head: bool) -> Result<Option<(Answer, usize)>, String> {
    let start = b"HTTP/1.";
    if !bytes.starts_with(&start[..bytes.len().min(start.len())]) {
        return Err(format!("no answer begins with {}", bytes[..bytes.len().min(80)].escape_ascii()));
    }
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "a head that is not text".to_owned())?;
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let status = line.get(9..12).and_then(|code| code.parse::<u16>().ok()).filter(|code| (100..600).contains(code));
    let status = status.filter(|_| line.as_bytes().get(8) == Some(&b' ')).ok_or(format!("status line {line:?}"))?;
    let headers = lines.map(header).collect::<Result<Vec<_>, _>>()?;
    let mut answer = Answer { status, headers, body: Vec::new(), is_bare: false };
    for name in ["content-length", "transfer-encoding", "content-type", "location", "date"] {
        if answer.headers.iter().filter(|(known, _)| known == name).count() > 1 {
            return Err(format!("{name} twice in {head:?}"));
        }
    }
    let rest = &bytes[end + 4..];
    let used = match (answer.header("content-length"), answer.header("transfer-encoding")) {
        (Some(_), Some(_)) => return Err(format!("two lengths in {head:?}")),
        _ if status < 200 || status == 204 || status == 304 => 0,
        _ if is_head => {
            answer.is_bare = true;
            0
        }
        (Some(length), None) => {
            let length: usize = length.parse().map_err(|_| format!("length {length:?}"))?;
            let Some(body) = rest.get(..length) else { return Ok(None) };
            answer.body = body.to_vec();
            length
        }
        (None, Some(_)) => match chunks(rest)? {
            Some((body, used)) => {
                answer.body = body;
                used
            }
            None => return Ok(None),
        },
        (None, None) => return Err(format!("a body without an end: {head:?}")),
    };
    Ok(Some((answer, end + 4 + used)))
}

fn header(line: &str) -> Result<(String, String), String> {
    let (name, value) = line.split_once(':').ok_or(format!("header {line:?}"))?;
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let is_value = !value.bytes().any(|byte| byte < b' ' && byte != b'\t');
    match is_name && is_value {
        true => Ok((name.to_ascii_lowercase(), value.trim().to_owned())),
        false => Err(format!("header {line:?}")),
    }
}

fn chunks(mut rest: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (all, mut body) = (rest.len(), Vec::new());
    loop {
        let Some(end) = rest.windows(2).position(|window| window == b"\r\n") else { return Ok(None) };
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        let size = usize::from_str_radix(&line, 16).map_err(|_| format!("chunk of {line:?}"))?;
        let Some(piece) = rest.get(end + 2..end + 2 + size + 2) else { return Ok(None) };
        if !piece.ends_with(b"\r\n") {
            return Err("a chunk without an end".to_owned());
        }
        body.extend_from_slice(&piece[..size]);
        rest = &rest[end + 2 + size + 2..];
        if size == 0 {
            return Ok(Some((body, all - rest.len())));
        }
    }
}

/// A connection to one server process.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// The number of the process that it leads to.
    pub generation: u64,
    /// Whether it has carried an answer.
    pub is_used: bool,
}

impl Connection {
    pub fn open(address: SocketAddr, generation: u64) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self { stream, generation, is_used: false })
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn end_sending(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads into `received`, until `is_enough`, the end, or `quiet` has passed without a byte.
    pub fn take(&mut self, received: &mut Vec<u8>, quiet: Duration, is_enough: impl Fn(&[u8]) -> bool) -> Ended {
        let mut space = vec![0; 64 << 10];
        let mut moved = Instant::now();
        loop {
            if is_enough(received) {
                return Ended::Enough;
            }
            let left = quiet.saturating_sub(moved.elapsed());
            if left.is_zero() || self.stream.set_read_timeout(Some(left)).is_err() {
                return Ended::Quiet;
            }
            match self.stream.read(&mut space) {
                Ok(0) => return Ended::Closed,
                Ok(count) => {
                    received.extend_from_slice(&space[..count]);
                    moved = Instant::now();
                }
                Err(error) if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Ended::Closed,
            }
        }
    }
}

/// The reason to stop reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Enough,
    Closed,
    Quiet,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_head_whose_length_is_that_of_the_next_answer_has_no_body() {
        let next = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
        let head = format!("HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n", next.len());
        let bytes = [head.as_bytes(), next].concat();
        // The request was hidden in another one: the client did not know of a HEAD.
        let Reading::Whole(answers) = read(&bytes, &[false], false) else { panic!("not whole") };
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [404, 400]);
        let Reading::Whole(answers) = read(&bytes, &[false], true) else { panic!("not whole") };
        assert_eq!(answers.len(), 1, "where the client is sure, it is a body");
    }
}
