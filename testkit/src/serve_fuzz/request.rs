//! A request before it becomes bytes, so that each of its parts can be changed.

/// The framing of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body, and no header about one.
    None,
    /// `Content-Length`.
    Length,
    /// `Transfer-Encoding: chunked`, in pieces of this many bytes.
    Chunked(usize),
}

#[derive(Debug, Clone)]
pub struct Request {
    pub method: Vec<u8>,
    pub path: Vec<u8>,
    /// Names and values, in the order of the request.
    pub query: Vec<(String, String)>,
    pub version: Vec<u8>,
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub body: Vec<u8>,
    pub framing: Framing,
}

impl Request {
    pub fn new(method: &str, path: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            path: path.into().into_bytes(),
            query: Vec::new(),
            version: b"HTTP/1.1".to_vec(),
            headers: Vec::new(),
            body: Vec::new(),
            framing: Framing::None,
        }
    }

    pub fn query(mut self, name: &str, value: impl ToString) -> Self {
        self.query.push((name.into(), value.to_string()));
        self
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into().into_bytes()));
        self
    }

    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        (self.body, self.framing) = (bytes.into(), Framing::Length);
        self
    }

    pub fn chunked(mut self, bytes: impl Into<Vec<u8>>, piece: usize) -> Self {
        (self.body, self.framing) = (bytes.into(), Framing::Chunked(piece.max(1)));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut all = [self.method.as_slice(), b" ", &self.path].concat();
        for (at, (name, value)) in self.query.iter().enumerate() {
            all.push(if at == 0 && !self.path.contains(&b'?') { b'?' } else { b'&' });
            all.extend_from_slice(name.as_bytes());
            all.push(b'=');
            all.extend_from_slice(value.as_bytes());
        }
        all.extend_from_slice(&[b" ".as_slice(), &self.version, b"\r\n"].concat());
        for (name, value) in &self.headers {
            all.extend_from_slice(&[name.as_slice(), b": ", value, b"\r\n"].concat());
        }
        match self.framing {
            Framing::None => all.extend_from_slice(b"\r\n"),
            Framing::Length => {
                all.extend_from_slice(format!("Content-Length: {}\r\n\r\n", self.body.len()).as_bytes());
                all.extend_from_slice(&self.body);
            }
            Framing::Chunked(size) => {
                all.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for piece in self.body.chunks(size) {
                    all.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    all.extend_from_slice(&[piece, b"\r\n"].concat());
                }
                all.extend_from_slice(b"0\r\n\r\n");
            }
        }
        all
    }
}

/// Bytes in a readable form that a shell can send with `printf`; the middle of long ones is left out.
pub fn printable(bytes: &[u8]) -> String {
    shortened(bytes, 2_500)
}

/// The same, much shorter: for answers.
pub fn brief(bytes: &[u8]) -> String {
    shortened(bytes, 300)
}

fn shortened(bytes: &[u8], most: usize) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let end = most / 5;
    match bytes.len().checked_sub(most + end) {
        None => text(bytes),
        Some(left) => format!("{}…[{left} bytes]…{}", text(&bytes[..most]), text(&bytes[bytes.len() - end..])),
    }
}
