//! Changes to requests: to their parts, and to their bytes.

use super::draw::Draw;
use super::request::{Framing, Request};

const METHODS: [&str; 14] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "PROPFIND", "", "G\u{e9}T",
    "PRI",
];

/// Path segments that lead elsewhere, or nowhere.
const PIECES: [&str; 28] = [
    "..",
    "%2e%2e",
    ".",
    "",
    "%00",
    "\0",
    "%2f",
    "\\..\\",
    "%252e%252e",
    "_layout",
    "index.json",
    "blobs",
    "uploads",
    "manifests",
    "tags",
    "list",
    "referrers",
    "_catalog",
    "..%2f..%2fcanary",
    "../../../canary/secret",
    "A",
    "é",
    "\u{202e}",
    "a b",
    "?x",
    "#",
    "*",
    "sha256:..",
];

const NUMBERS: [&str; 14] = [
    "0",
    "-1",
    "1",
    "+1",
    "01",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999",
    "1e9",
    "0x10",
    "",
    "9223372036854775807",
    "4294967296",
    "NaN",
];

const DIGESTS: [&str; 9] = [
    "sha256:",
    "sha256:..",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
    "md5:d41d8cd98f00b204e9800998ecf8427e",
    "sha512:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ":",
    "sha256:../../../canary/secret",
    "x",
];

/// Headers that a server must handle: name and values.
const HEADERS: [(&str, &[&str]); 20] = [
    ("Content-Length", &NUMBERS),
    ("Transfer-Encoding", &["chunked", "gzip", "chunked, chunked", "identity", "xchunked", "\tchunked", "chunked\x0b"]),
    ("Expect", &["100-continue", "100-Continue", "x", "200"]),
    (
        "Content-Range",
        &["0-0", "5-4", "bytes 0-9/10", "0-18446744073709551615", "18446744073709551615-0", "-", "a-b", "+0-+1", "0-"],
    ),
    (
        "Range",
        &[
            "bytes=0-18446744073709551615",
            "bytes=18446744073709551615-",
            "bytes=-18446744073709551615",
            "bytes=0-0",
            "bytes=-0",
            "bytes=-",
            "bytes=5-2",
            "bytes=99999999999999999999-",
            "lines=0-1",
            "bytes= 0-1",
            "bytes=0-1,3-4",
            "bytes=0-,0-,0-,0-,0-,0-",
        ],
    ),
    ("If-Range", &["*", "W/\"x\"", "", "Wed, 21 Oct 2015 07:28:00 GMT"]),
    (
        "Host",
        &[
            "",
            "evil.example",
            "localhost.",
            "127.0.0.1:99999",
            "[::1",
            "a,b",
            "user@localhost",
            "0",
            "127.1",
            "LOCALHOST",
        ],
    ),
    ("Origin", &["null", "http://evil.example", "http://127.0.0.1:5000", "", "http://localhost", "x", "file://"]),
    ("Sec-Fetch-Site", &["cross-site", "same-origin", "none", "same-site", "CROSS-SITE", ""]),
    (
        "Authorization",
        &[
            "Basic",
            "Basic ",
            "Basic !!!!",
            "Basic Og==",
            "Basic dXNlcg==",
            "Bearer x",
            "Bearer ",
            "basic dTpw",
            "Digest x=y",
            "\u{e9}",
        ],
    ),
    (
        "Accept",
        &["", "*/*", "application/json;q=0", "x", ",,,,", "application/vnd.docker.distribution.manifest.v2+json"],
    ),
    (
        "Content-Type",
        &[
            "",
            "application/json",
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "text/html; charset=x",
            "a/b/c",
            "\u{ff}",
            "application/vnd.docker.distribution.manifest.v2+json; charset=utf-8",
        ],
    ),
    ("Connection", &["close", "keep-alive", "upgrade", "Content-Length", "close, keep-alive"]),
    ("Upgrade", &["h2c", "websocket", "TLS/1.0"]),
    ("OCI-Subject", &["sha256:x"]),
    ("If-None-Match", &["*", "\"x\""]),
    ("If-Match", &["*", "\"x\""]),
    ("X-Forwarded-For", &["1.2.3.4", "a\tb", "::1"]),
    ("Content-Encoding", &["gzip", "zstd", "x"]),
    ("Docker-Upload-UUID", &["../../canary", "x"]),
];

/// Changes one part of a request.
pub fn change(draw: &mut Draw, request: &mut Request) {
    match draw.below(20) {
        0 => request.method = draw.pick(&METHODS).into(),
        1..5 => change_path(draw, &mut request.path),
        5..8 => change_query(draw, request),
        8..12 => change_headers(draw, request),
        12..16 => change_body(draw, request),
        16 => {
            request.version =
                draw.pick(&["HTTP/1.0", "HTTP/1.1", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.2", ""]).into()
        }
        17..19 => change_framing(draw, request),
        _ => request.framing = Framing::None,
    }
}

fn change_path(draw: &mut Draw, path: &mut Vec<u8>) {
    let mut parts: Vec<Vec<u8>> = path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
    let at = draw.below(parts.len());
    match draw.below(11) {
        0..3 => parts.insert(at, draw.pick(&PIECES).into()),
        3 => parts[at] = draw.pick(&PIECES).into(),
        4 => drop(parts.remove(at)),
        5 => {
            let other = draw.below(parts.len());
            parts.swap(at, other);
        }
        6 => parts[at] = b"a".repeat(1 << draw.below(16)),
        7 => parts.insert(at, draw.pick(&DIGESTS).into()),
        8 => parts[at].make_ascii_uppercase(),
        9 => parts[at] = parts[at].iter().flat_map(|byte| format!("%{byte:02x}").into_bytes()).collect(),
        _ => parts[at].extend_from_slice(format!("{}", draw.below(20)).as_bytes()),
    }
    *path = parts.join(&b'/');
    if draw.percent(3) {
        let host = draw.pick(&["http://127.0.0.1", "http://evil.example", "//evil.example", "https://", "*"]);
        path.splice(0..0, host.bytes());
    }
}

fn change_query(draw: &mut Draw, request: &mut Request) {
    let at = draw.below(request.query.len());
    match (draw.below(6), request.query.is_empty()) {
        (0, false) => request.query[at].1 = draw.pick(&DIGESTS).into(),
        (1, false) => drop(request.query.remove(at)),
        (2, false) => request.query.push(request.query[at].clone()),
        (3, false) => request.query[at].1 = draw.pick(&NUMBERS).into(),
        (4, _) => {
            let name = draw.pick(&[
                "n",
                "last",
                "digest",
                "mount",
                "from",
                "tag",
                "artifactType",
                "digest-algorithm",
                "scope",
                "",
            ]);
            let value = match draw.below(4) {
                0 => draw.pick(&NUMBERS).to_owned(),
                1 => draw.pick(&DIGESTS).to_owned(),
                2 => draw.pick(&["%", "%zz", "%ff%fe", "%00", "&&&", "a%0d%0aX: y", "..%2f..", "é", "+"]).to_owned(),
                _ => "x".repeat(1 << draw.below(15)),
            };
            request.query.push((name.into(), value));
        }
        _ => (0..draw.below(200)).for_each(|n| request.query.push((format!("tag{}", n % 3), n.to_string()))),
    }
}

fn change_headers(draw: &mut Draw, request: &mut Request) {
    let at = draw.below(request.headers.len());
    match (draw.below(12), request.headers.is_empty()) {
        (0, false) => drop(request.headers.remove(at)),
        (1, false) => request.headers.push(request.headers[at].clone()),
        (2, false) => request.headers[at].0.make_ascii_uppercase(),
        (3, _) => {
            let count = 1 << draw.below(8);
            request.headers.extend((0..count).map(|n| (format!("X-{n}").into_bytes(), b"y".to_vec())));
        }
        (4, _) => request.headers.push((b"X-Long".to_vec(), b"y".repeat(1 << draw.below(17)))),
        (5, _) => {
            let name = draw.pick(&["X Y", "", ":", "X\0", "é", " Host", "X\r\nY"]);
            request.headers.push((name.into(), draw.pick(&["", "\0", "\r", "\n\n", "a\r\n b"]).into()));
        }
        _ => {
            let (name, values) = HEADERS[draw.below(HEADERS.len())];
            if draw.percent(50) {
                request.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name.as_bytes()));
            }
            request.headers.push((name.into(), draw.pick(values).into()));
        }
    }
}

fn change_framing(draw: &mut Draw, request: &mut Request) {
    match draw.below(4) {
        0 => request.framing = Framing::Length,
        1 => request.framing = Framing::Chunked(1 + draw.below(5_000)),
        2 => {
            // The framing adds the second length.
            let length = match draw.below(3) {
                0 => request.body.len().to_string(),
                1 => (request.body.len() + 1 + draw.below(9)).to_string(),
                _ => (request.body.len() / 2).to_string(),
            };
            request.headers.push((b"Content-Length".to_vec(), length.into_bytes()));
        }
        _ => {
            request.headers.push((b"Content-Length".to_vec(), request.body.len().to_string().into_bytes()));
            request.framing = Framing::None;
            let left = draw.below(request.body.len());
            // Fewer bytes than announced, or all of them.
            request.headers.push((b"X-Body".to_vec(), b"follows".to_vec()));
            request.body.truncate(left);
        }
    }
}

fn change_body(draw: &mut Draw, request: &mut Request) {
    let length = request.body.len();
    match draw.below(9) {
        0 => request.body.truncate(draw.below(length)),
        1 => flip(draw, &mut request.body),
        2 => request.body.extend(draw.bytes(100)),
        3 => request.body = deep(draw),
        4 => request.body = draw.pick(&JSON).into(),
        5 => {
            let number = draw.pick(&NUMBERS);
            swap_number(&mut request.body, number);
        }
        6 => {
            // The same key again, before the first one.
            if request.body.first() == Some(&b'{') {
                let pair = draw.pick(&[
                    r#""mediaType":"x/y","#,
                    r#""schemaVersion":3,"#,
                    r#""layers":null,"#,
                    r#""subject":{},"#,
                ]);
                request.body.splice(1..1, pair.bytes());
            }
        }
        7 => {
            let digest = draw.pick(&DIGESTS);
            swap_digest(&mut request.body, digest);
        }
        _ => request.body = Vec::new(),
    }
    if request.framing == Framing::None {
        request.framing = Framing::Length;
    }
}

const JSON: [&str; 14] = [
    "",
    "{}",
    "[]",
    "null",
    "1",
    "\"x\"",
    "{\"schemaVersion\":2}",
    "{\"schemaVersion\":1e400}",
    "\u{feff}{}",
    "{\"a\":\"\\ud800\"}",
    "{\"schemaVersion\":2,\"manifests\":{}}",
    "{\"schemaVersion\":2,\"layers\":[{}],\"config\":null}",
    "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"layers\":[],\"manifests\":[]}",
    "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"\",\"digest\":\"sha256:x\",\"size\":-1}]}",
];

fn deep(draw: &mut Draw) -> Vec<u8> {
    let depth = 1 << draw.below(18);
    let (open, close) = [("[", "]"), ("{\"a\":", "}"), ("{\"manifests\":[", "]}")][draw.below(3)];
    let start = if draw.percent(50) { "{\"schemaVersion\":2,\"annotations\":" } else { "" };
    let end = if start.is_empty() { "" } else { "}" };
    [start, &open.repeat(depth), "1", &close.repeat(depth), end].concat().into_bytes()
}

fn swap_number(body: &mut Vec<u8>, number: &str) {
    let key = b"\"size\":";
    if let Some(at) = body.windows(key.len()).position(|window| window == key) {
        let start = at + key.len();
        let end = body[start..].iter().position(|byte| !byte.is_ascii_digit()).map_or(body.len(), |left| start + left);
        body.splice(start..end, number.bytes());
    }
}

fn swap_digest(body: &mut Vec<u8>, digest: &str) {
    let key = b"\"sha256:";
    if let Some(at) = body.windows(key.len()).position(|window| window == key) {
        let end = body[at + 1..].iter().position(|byte| *byte == b'"').map_or(body.len(), |left| at + 1 + left);
        body.splice(at + 1..end, digest.bytes());
    }
}

fn flip(draw: &mut Draw, bytes: &mut [u8]) {
    for _ in 0..=draw.below(4) {
        let at = draw.below(bytes.len());
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << draw.below(8);
        }
    }
}

/// Changes the bytes of a request, at any place.
pub fn change_bytes(draw: &mut Draw, raw: &mut Vec<u8>) {
    // Mostly in the head: bodies are long and say little.
    let head = raw.windows(4).position(|window| window == b"\r\n\r\n").map_or(raw.len(), |at| at + 4);
    let at = if draw.percent(80) { draw.below(head) } else { draw.below(raw.len()) };
    match draw.below(8) {
        0 | 1 => {
            let end = head.min(raw.len());
            flip(draw, &mut raw[..end]);
        }
        2 => {
            let piece =
                draw.pick(&["\r\n", "\n", "\r", " ", "\0", "\t", ":", "\r\n\r\n", "0\r\n\r\n", "\u{85}", "%", "/"]);
            raw.splice(at..at, piece.bytes());
        }
        3 => {
            let end = (at + 1 + draw.below(20)).min(raw.len());
            raw.drain(at..end);
        }
        4 => {
            let end = (at + 1 + draw.below(200)).min(raw.len());
            let again = raw[at..end].to_vec();
            raw.splice(at..at, again);
        }
        5 => break_chunk(draw, raw),
        6 => raw.truncate(at),
        _ => {
            let noise = draw.below(300);
            let noise = draw.bytes(noise);
            raw.splice(at..at, noise);
        }
    }
}

/// Corrupts the size of a chunk, if there are chunks.
fn break_chunk(draw: &mut Draw, raw: &mut Vec<u8>) {
    let Some(at) = raw.windows(11).position(|window| window == b"chunked\r\n\r\n") else { return };
    let size = draw.pick(&[
        "ffffffffffffffff\r\n",
        "fffffffffffffffff\r\n",
        "-1\r\n",
        "0x5\r\n",
        "5;ext=\"\r\n",
        "\r\n",
        "g\r\n",
        "00000000000000005\r\n",
        "5 \r\n",
        "0\r\nX: y\r\n",
        "0\r\nContent-Length: 5\r\n\r\n",
        "7fffffff\r\n",
        "5\n",
    ]);
    let start = at + 11;
    let end = raw[start..].iter().position(|byte| *byte == b'\n').map_or(raw.len(), |left| start + left + 1);
    raw.splice(start..end, size.bytes());
}
