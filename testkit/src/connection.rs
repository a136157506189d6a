//! A bare HTTP/1.1 connection over a blocking socket, for the bound, the publisher and the check.
//!
//! Handles only the simple HTTP of registries: `Content-Length`, kept alive. It refuses chunked answers and TLS. It shares
//! no code with the measured program.

use std::io::{self, Read, Write};
use std::net::TcpStream;

/// Largest piece read at once, in bytes. A head must fit into it.
const PIECE: usize = 256 << 10;

/// A response without its body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Length of the body, or for HEAD the length that it would have.
    pub length: u64,
    pub location: Option<String>,
    /// The digest of the content according to the registry: `Docker-Content-Digest`.
    pub digest: Option<String>,
}

/// One connection to one registry.
#[derive(Debug)]
pub struct Connection {
    host: String,
    stream: TcpStream,
    /// Request heads wait here for the first piece of their body, so that small requests are one packet.
    unsent: Vec<u8>,
    buffer: Box<[u8]>,
    /// Bytes read and not used yet: `buffer[begin..end]`.
    begin: usize,
    end: usize,
}

impl Connection {
    pub fn open(host: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        let buffer = vec![0; PIECE].into();
        Ok(Self { host: host.to_owned(), stream, unsent: Vec::new(), buffer, begin: 0, end: 0 })
    }

    /// Writes a request's head. `more` holds further headers, each with its line end.
    pub fn begin(&mut self, method: &str, path: &str, more: &str) -> io::Result<()> {
        write!(self.unsent, "{method} {path} HTTP/1.1\r\nHost: {}\r\n{more}\r\n", self.host)
    }

    /// Sends a piece of the body, after all waiting bytes.
    pub fn send(&mut self, piece: &[u8]) -> io::Result<()> {
        if self.unsent.is_empty() {
            return self.stream.write_all(piece);
        }
        self.unsent.extend_from_slice(piece);
        self.flush()
    }

    /// Sends all waiting bytes.
    pub fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.unsent)?;
        self.unsent.clear();
        Ok(())
    }

    /// A request without a body, and its answer without one.
    pub fn ask(&mut self, method: &str, path: &str) -> io::Result<Answer> {
        let more = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
        self.begin(method, path, more)?;
        self.answer(method)
    }

    /// Reads the head of the answer to a request of `method`. Read the body with [`piece`](Self::piece); bodies of answers
    /// to HEAD and uploads are skipped here.
    pub fn answer(&mut self, method: &str) -> io::Result<Answer> {
        self.flush()?;
        loop {
            let head = self.head()?;
            let answer = parse(&head)?;
            // 100 Continue and similar ones announce the answer.
            if answer.status >= 200 {
                if method != "GET" && method != "HEAD" {
                    self.skip(answer.length)?;
                }
                return Ok(answer);
            }
        }
    }

    /// The next piece of a body with `left` bytes to come.
    pub fn piece(&mut self, left: u64) -> io::Result<&[u8]> {
        if self.begin == self.end {
            self.begin = 0;
            self.end = self.stream.read(&mut self.buffer)?;
            if self.end == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{left} bytes short of a body")));
            }
        }
        let from = self.begin;
        self.begin = self.end.min(from + usize::try_from(left).unwrap_or(usize::MAX));
        Ok(&self.buffer[from..self.begin])
    }

    /// A body of `length` bytes, whole.
    pub fn whole(&mut self, length: u64) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        while (body.len() as u64) < length {
            let piece = self.piece(length - body.len() as u64)?;
            body.extend_from_slice(piece);
        }
        Ok(body)
    }

    fn skip(&mut self, mut length: u64) -> io::Result<()> {
        while length > 0 {
            length -= self.piece(length)?.len() as u64;
        }
        Ok(())
    }

    fn head(&mut self) -> io::Result<String> {
        // The rest moves to the front, so that the head is in one piece.
        self.buffer.copy_within(self.begin..self.end, 0);
        (self.begin, self.end) = (0, self.end - self.begin);
        let mut seen = 0;
        loop {
            if let Some(at) = self.buffer[seen..self.end].windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                self.begin = seen + at + 4;
                return Ok(String::from_utf8_lossy(&self.buffer[..self.begin]).into_owned());
            }
            seen = self.end.saturating_sub(3);
            let read = self.stream.read(&mut self.buffer[self.end..])?;
            if read == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no answer"));
            }
            self.end += read;
        }
    }
}

fn parse(head: &str) -> io::Result<Answer> {
    let odd = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{what} in {head:?}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or_else(|| odd("no status"))?;
    let mut answer = Answer { status, length: 0, location: None, digest: None };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => answer.length = value.parse().map_err(|_| odd("no length"))?,
            "location" => answer.location = Some(path_of(value)),
            "docker-content-digest" => answer.digest = Some(value.to_owned()),
            "transfer-encoding" => return Err(odd("a chunked body")),
            _ => {}
        }
    }
    Ok(answer)
}

/// Path and query of a location on the same host.
fn path_of(location: &str) -> String {
    let after = location.split_once("://").map_or(location, |(_, rest)| rest);
    after.find('/').map_or("/", |at| &after[at..]).to_owned()
}
