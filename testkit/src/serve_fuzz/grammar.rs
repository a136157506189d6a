//! Valid requests of the distribution spec, to start from.

use autonomy_registry::oci::{Digest, MediaType};
use serde_json::{Value, json};

use super::draw::Draw;
use super::request::Request;

/// Names that a client has learned, as material for its next requests.
#[derive(Debug, Default)]
pub struct Known {
    /// Repositories where it may send anything.
    pub repositories: Vec<String>,
    /// A repository that it may only mount from.
    pub origin: String,
    pub blobs: Vec<(Digest, usize)>,
    pub manifests: Vec<(Digest, usize)>,
    /// Paths of upload sessions, from the server's answers.
    pub uploads: Vec<String>,
}

/// Tags that all clients use.
const TAGS: [&str; 8] = ["v1", "latest", "1.2.3-rc.1", "_x", "sha256-0123", "V", "a.b-c_d", "t7"];

pub const ARTIFACT_TYPES: [&str; 3] =
    ["application/vnd.dev.cosign.artifact.sig.v1+json", "application/spdx+json", "text/x"];

impl Known {
    /// Keeps at most this many.
    pub fn trim(&mut self) {
        for list in [&mut self.blobs, &mut self.manifests] {
            let much = list.len().saturating_sub(200);
            list.drain(..much);
        }
        let much = self.uploads.len().saturating_sub(40);
        self.uploads.drain(..much);
    }

    fn repository(&self, draw: &mut Draw) -> String {
        draw.one(&self.repositories).cloned().unwrap_or_default()
    }

    fn blob(&self, draw: &mut Draw) -> (Digest, usize) {
        let unknown = draw.bytes(8);
        draw.one(&self.blobs).copied().filter(|_| draw.percent(92)).unwrap_or((Digest::sha256(&unknown), 8))
    }

    fn manifest(&self, draw: &mut Draw) -> (Digest, usize) {
        let unknown = draw.bytes(8);
        draw.one(&self.manifests).copied().filter(|_| draw.percent(92)).unwrap_or((Digest::sha256(&unknown), 8))
    }

    /// A tag or a digest.
    fn reference(&self, draw: &mut Draw) -> String {
        if draw.percent(50) { draw.pick(&TAGS).to_owned() } else { self.manifest(draw).0.to_string() }
    }

    fn upload(&self, draw: &mut Draw) -> String {
        let made_up = format!("/v2/{}/blobs/uploads/0b5ad1c4-7a0e-4f43-9a34-1f0c5d2e6b7a", self.repository(draw));
        draw.one(&self.uploads).cloned().unwrap_or(made_up)
    }
}

fn descriptor(media_type: &str, (digest, size): (Digest, usize)) -> Value {
    json!({"mediaType": media_type, "digest": digest, "size": size})
}

/// An image, or any other artifact.
pub fn image(
    config: (Digest, usize),
    layers: &[(Digest, usize)],
    subject: Option<(Digest, usize)>,
    artifact_type: Option<&str>,
    number: u64,
) -> Value {
    let layers: Vec<_> = layers.iter().map(|layer| descriptor(MediaType::OCI_LAYER.as_str(), *layer)).collect();
    let mut image = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_MANIFEST.as_str(),
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": layers,
        "annotations": {"number": number.to_string()},
    });
    if let Some(subject) = subject {
        image["subject"] = descriptor(MediaType::OCI_MANIFEST.as_str(), subject);
    }
    if let Some(artifact_type) = artifact_type {
        image["artifactType"] = artifact_type.into();
    }
    image
}

pub fn index(children: &[(Digest, usize)], subject: Option<(Digest, usize)>, number: u64) -> Value {
    let children: Vec<_> = children.iter().map(|c| descriptor(MediaType::OCI_MANIFEST.as_str(), *c)).collect();
    let mut index = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_INDEX.as_str(),
        "manifests": children,
        "annotations": {"number": number.to_string()},
    });
    if let Some(subject) = subject {
        index["subject"] = descriptor(MediaType::OCI_MANIFEST.as_str(), subject);
    }
    index
}

/// A valid request, to be changed or not.
pub fn base(draw: &mut Draw, known: &Known, credentials: &str) -> Request {
    let request = match draw.below(100) {
        0..36 => upload(draw, known),
        36..54 => read_blob(draw, known),
        54..70 => put_manifest(draw, known),
        70..82 => read_manifest(draw, known),
        82..94 => list(draw, known),
        94..98 => delete(draw, known),
        _ => {
            let path = draw.pick(&["/", "/v2/", "/v2", "/healthz", "/readyz", "/metrics", "/token?service=x&scope=y"]);
            Request::new(draw.pick(&["GET", "GET", "HEAD", "OPTIONS", "POST"]), path)
        }
    };
    let host = draw.pick(&["localhost", "127.0.0.1", "localhost:5000", "127.0.0.1:1", "[::1]:5000"]);
    let request = request.header("Host", host);
    if credentials.is_empty() || draw.percent(3) { request } else { request.header("Authorization", credentials) }
}

fn upload(draw: &mut Draw, known: &Known) -> Request {
    let repository = known.repository(draw);
    let begin = format!("/v2/{repository}/blobs/uploads/");
    let size = draw.size();
    let bytes = draw.bytes(size);
    let digest = match draw.below(12) {
        0 => known.blob(draw).0,
        1 => sha512_of(&bytes),
        _ => Digest::sha256(&bytes),
    };
    match draw.below(12) {
        0..2 => Request::new("POST", begin).header("Content-Length", "0"),
        2..4 => Request::new("POST", begin).query("digest", digest).body(bytes),
        4 => {
            let from = if draw.percent(50) { known.origin.clone() } else { known.repository(draw) };
            let mount = Request::new("POST", begin).query("mount", known.blob(draw).0);
            if draw.percent(85) { mount.query("from", from) } else { mount }
        }
        5 => Request::new("POST", begin).query("digest-algorithm", draw.pick(&["sha256", "sha512", "md5"])),
        6..8 => {
            let end = bytes.len().saturating_sub(1);
            let patch = Request::new("PATCH", known.upload(draw)).header("Content-Type", "application/octet-stream");
            let patch = if draw.percent(30) { patch.header("Content-Range", format!("0-{end}")) } else { patch };
            if draw.percent(50) { patch.body(bytes) } else { patch.chunked(bytes, 1 + size / (1 + draw.below(9))) }
        }
        8..10 => Request::new("PUT", known.upload(draw)).query("digest", digest).body(bytes),
        10 => Request::new("GET", known.upload(draw)),
        _ => Request::new("DELETE", known.upload(draw)),
    }
}

fn read_blob(draw: &mut Draw, known: &Known) -> Request {
    let (digest, size) = known.blob(draw);
    let path = format!("/v2/{}/blobs/{digest}", known.repository(draw));
    let request = Request::new(draw.pick(&["GET", "GET", "HEAD"]), path);
    let (one, other) = (draw.below(size + 2), draw.below(size + 2));
    let request = match draw.below(8) {
        0 => request.header("Range", format!("bytes={}-{}", one.min(other), one.max(other))),
        1 => request.header("Range", format!("bytes={one}-")),
        2 => request.header("Range", format!("bytes=-{one}")),
        3 => request.header("Range", format!("bytes={one}-{other},0-0")),
        _ => return request,
    };
    match draw.below(4) {
        0 => request.header("If-Range", format!("\"{digest}\"")),
        1 => request.header("If-Range", "\"x\""),
        _ => request,
    }
}

fn put_manifest(draw: &mut Draw, known: &Known) -> Request {
    let number = draw.next();
    let some = |draw: &mut Draw, most: usize| -> Vec<_> { (0..draw.below(most)).map(|_| known.blob(draw)).collect() };
    let subject = draw.percent(30).then(|| known.manifest(draw));
    let (mut value, media_type) = if draw.percent(65) {
        let (config, layers) = (known.blob(draw), some(draw, 4));
        let artifact_type = draw.percent(30).then(|| draw.pick(&ARTIFACT_TYPES));
        (image(config, &layers, subject, artifact_type, number), MediaType::OCI_MANIFEST)
    } else {
        let children: Vec<_> = (0..draw.below(5)).map(|_| known.manifest(draw)).collect();
        (index(&children, subject, number), MediaType::OCI_INDEX)
    };
    if draw.percent(10) {
        value["annotations"]["filler"] = "x".repeat(draw.below(300_000)).into();
    }
    let bytes = value.to_string().into_bytes();
    let repository = known.repository(draw);
    let request = match draw.below(10) {
        0..5 => Request::new("PUT", format!("/v2/{repository}/manifests/{}", draw.pick(&TAGS))),
        5..9 => Request::new("PUT", format!("/v2/{repository}/manifests/{}", Digest::sha256(&bytes))),
        _ => Request::new("PUT", format!("/v2/{repository}/manifests/{}", Digest::sha256(&bytes)))
            .query("tag", draw.pick(&TAGS))
            .query("tag", draw.pick(&TAGS)),
    };
    request.header("Content-Type", media_type.as_str()).body(bytes)
}

fn read_manifest(draw: &mut Draw, known: &Known) -> Request {
    let path = format!("/v2/{}/manifests/{}", known.repository(draw), known.reference(draw));
    let request = Request::new(draw.pick(&["GET", "GET", "HEAD"]), path);
    request.header("Accept", draw.pick(&["*/*", MediaType::OCI_MANIFEST.as_str(), MediaType::OCI_INDEX.as_str()]))
}

fn list(draw: &mut Draw, known: &Known) -> Request {
    let repository = known.repository(draw);
    let request = match draw.below(3) {
        0 => Request::new("GET", format!("/v2/{repository}/tags/list")),
        1 => Request::new("GET", "/v2/_catalog"),
        _ => {
            let referrers = Request::new("GET", format!("/v2/{repository}/referrers/{}", known.manifest(draw).0));
            let wanted = draw.pick(&ARTIFACT_TYPES).replace('+', "%2B");
            return if draw.percent(30) { referrers.query("artifactType", wanted) } else { referrers };
        }
    };
    let request = if draw.percent(50) { request.query("n", draw.below(6)) } else { request };
    if draw.percent(30) { request.query("last", draw.pick(&TAGS)) } else { request }
}

fn delete(draw: &mut Draw, known: &Known) -> Request {
    let repository = known.repository(draw);
    match draw.below(3) {
        0 => Request::new("DELETE", format!("/v2/{repository}/blobs/{}", known.blob(draw).0)),
        _ => Request::new("DELETE", format!("/v2/{repository}/manifests/{}", known.reference(draw))),
    }
}

pub fn sha512_of(bytes: &[u8]) -> Digest {
    let kind: Digest = format!("sha512:{}", "0".repeat(128)).parse().unwrap();
    kind.same_kind_of(bytes)
}
