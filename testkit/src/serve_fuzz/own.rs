//! Valid requests, in a repository that no other client writes to: each has one right answer.

use std::sync::Arc;

use autonomy_registry::oci::{Digest, MediaType};
use serde_json::Value;

use super::book::Sort;
use super::client::Client;
use super::draw::Draw;
use super::grammar::{self, ARTIFACT_TYPES, sha512_of};
use super::request::{Request, brief};
use super::wild::created;
use super::wire::Answer;

/// Most items kept, so that hours of it stay small.
const KEPT: usize = 120;
/// Most pages of a list.
const MAX_PAGES: usize = 100;

/// A repository and its content.
#[derive(Debug)]
pub struct Own {
    pub repository: String,
    /// The repository of all clients, to mount blobs from.
    pub shared: String,
    blobs: Vec<(Digest, Arc<Vec<u8>>)>,
    manifests: Vec<Held>,
}

#[derive(Debug, Clone)]
struct Held {
    digest: Digest,
    size: usize,
    subject: Option<Digest>,
    artifact_type: Option<&'static str>,
}

impl Own {
    pub fn new(repository: String, shared: String) -> Self {
        Self { repository, shared, blobs: Vec::new(), manifests: Vec::new() }
    }

    /// Blobs that other clients may mount.
    pub fn blobs(&self) -> Vec<(Digest, usize)> {
        self.blobs.iter().map(|(digest, bytes)| (*digest, bytes.len())).collect()
    }

    fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.repository)
    }

    fn is_there(&self, client: &Client, digest: Digest) -> bool {
        client.world.book.lock().unwrap().since(&(self.repository.clone(), digest)).is_some()
    }
}

/// Sends the next request, or the next few that belong together.
pub fn step(client: &mut Client, own: &mut Own, draw: &mut Draw) {
    // Two servers share the folder; content acknowledged by one is on the other too.
    client.side = draw.below(2);
    if draw.percent(50) {
        client.hang_up();
    }
    let is_full = own.blobs.len() > KEPT || own.manifests.len() > KEPT;
    match draw.below(100) {
        _ if is_full => remove(client, own, draw),
        0..30 => push_blob(client, own, draw),
        30..50 => push_manifest(client, own, draw),
        50..65 => read_blob(client, own, draw),
        65..80 => check(client, draw, Some(&own.repository.clone())),
        80..86 => tags(client, own, draw),
        86..91 => referrers(client, own, draw),
        91..96 => check(client, draw, None),
        _ => remove(client, own, draw),
    }
}

/// Whether the server may refuse at this moment: it is full or overloaded, and says so.
fn is_excused(answer: &Answer) -> bool {
    answer.status == 507 || ([429, 503].contains(&answer.status) && answer.header("retry-after").is_some())
}

/// Whether a collection removed this upload session with all others.
fn is_cleared(client: &Client, answer: &Answer, before: u64) -> bool {
    answer.status == 404 && client.world.cleared() != before
}

fn push_blob(client: &mut Client, own: &mut Own, draw: &mut Draw) {
    let size = draw.size();
    let bytes = draw.bytes(size);
    let digest = Digest::sha256(&bytes);
    let digest = if draw.percent(8) { sha512_of(&bytes) } else { digest };
    let sent = client.world.book.lock().unwrap().tick();
    let (begin, cleared) = (own.path("blobs/uploads/"), client.world.cleared());
    let (last, last_bytes) = match draw.below(5) {
        0 => (Some(Request::new("POST", begin).query("digest", digest).body(bytes.clone())), 0),
        1 => return mount(client, own, draw, sent),
        way => in_session(client, draw, &begin, digest, &bytes, way),
    };
    let Some(last) = last else { return };
    let Some(answer) = client.ask(&last) else { return };
    let is_made = answer.status == 201
        && answer
            .header("location")
            .and_then(|location| created(&answer, location))
            .is_some_and(|(place, _)| place == (own.repository.clone(), digest));
    if is_made {
        let place = (own.repository.clone(), digest);
        client.world.book.lock().unwrap().acknowledge(place, Sort::Blob, Vec::new(), sent);
        own.blobs.push((digest, Arc::new(bytes)));
    } else if !is_excused(&answer) && !is_cleared(client, &answer, cleared) {
        let raw = last.bytes();
        let told = brief(&answer.body);
        client.world.fault(
            &format!("a blob was refused: {} {told}; {last_bytes} of {size} bytes were left", answer.status),
            &raw,
        );
    }
}

/// Sends all but the last request of an upload session; returns that one.
fn in_session(
    client: &mut Client,
    draw: &mut Draw,
    begin: &str,
    digest: Digest,
    bytes: &[u8],
    way: usize,
) -> (Option<Request>, usize) {
    let cleared = client.world.cleared();
    let Some(begun) = client.ask(&Request::new("POST", begin).body(Vec::new())) else { return (None, 0) };
    let Some(location) = begun.header("location").filter(|_| begun.status == 202).map(str::to_owned) else {
        if !is_excused(&begun) {
            client.world.fault(&format!("no upload session: {}", begun.status), begin.as_bytes());
        }
        return (None, 0);
    };
    let mut offset = 0;
    for _ in 0..if way == 2 { 0 } else { 1 + draw.below(3) } {
        let end = (offset + draw.below(bytes.len() + 1)).min(bytes.len());
        let piece = &bytes[offset..end];
        let patch = Request::new("PATCH", &location);
        let patch = if way == 3 && !piece.is_empty() {
            patch.header("Content-Range", format!("{offset}-{}", end - 1)).body(piece)
        } else {
            patch.chunked(piece, 1 + draw.below(40_000))
        };
        let Some(taken) = client.ask(&patch) else { return (None, 0) };
        if taken.status != 202 {
            if !is_excused(&taken) && !is_cleared(client, &taken, cleared) {
                client
                    .world
                    .fault(&format!("a chunk was refused: {} {}", taken.status, brief(&taken.body)), &patch.bytes());
            }
            return (None, 0);
        }
        offset = end;
        let wanted = format!("0-{}", offset.saturating_sub(1));
        let status = if draw.percent(20) { client.ask(&Request::new("GET", &location)) } else { Some(taken) };
        let status = status.filter(|told| !is_cleared(client, told, cleared));
        if let Some(told) = status.filter(|told| told.header("range") != Some(&wanted)) {
            client.world.fault(&format!("range {:?} and not {wanted}", told.header("range")), &patch.bytes());
        }
    }
    let rest = bytes[offset..].to_vec();
    let left = rest.len();
    (Some(Request::new("PUT", location).query("digest", digest).body(rest)), left)
}

fn mount(client: &mut Client, own: &mut Own, draw: &mut Draw, sent: u64) {
    let there = client.world.book.lock().unwrap().expected(Some(&own.shared));
    let Some((place, _)) = draw.one(&there).cloned() else { return };
    let request = Request::new("POST", own.path("blobs/uploads/")).query("mount", place.1).query("from", &own.shared);
    let Some(answer) = client.ask(&request) else { return };
    match answer.status {
        201 => {
            let place = (own.repository.clone(), place.1);
            client.world.book.lock().unwrap().acknowledge(place, Sort::Blob, Vec::new(), sent);
        }
        202 => {
            // Removed meanwhile, or a manifest, which need not be mounted: an upload session is open.
            let location = answer.header("location").unwrap_or_default();
            client.ask(&Request::new("DELETE", location));
        }
        _ if is_excused(&answer) => {}
        other => client.world.fault(&format!("a mount was refused: {other}"), &request.bytes()),
    }
}

fn push_manifest(client: &mut Client, own: &mut Own, draw: &mut Draw) {
    let number = draw.next();
    let subject = if draw.percent(30) { draw.one(&own.manifests).cloned() } else { None };
    let named = subject.as_ref().map(|held| (held.digest, held.size));
    let blobs = own.blobs();
    let Some(config) = draw.one(&blobs).copied() else { return };
    let artifact_type = draw.percent(40).then(|| draw.pick(&ARTIFACT_TYPES));
    let is_image = draw.percent(70);
    let (value, children): (Value, Vec<Digest>) = if is_image {
        let layers: Vec<_> = (0..draw.below(3)).filter_map(|_| draw.one(&blobs).copied()).collect();
        let children = layers.iter().chain([&config]).map(|(digest, _)| *digest).collect();
        (grammar::image(config, &layers, named, artifact_type, number), children)
    } else {
        let held: Vec<_> =
            (0..draw.below(4)).filter_map(|_| draw.one(&own.manifests)).map(|h| (h.digest, h.size)).collect();
        (grammar::index(&held, named, number), held.iter().map(|(digest, _)| *digest).collect())
    };
    let bytes = value.to_string().into_bytes();
    let digest = Digest::sha256(&bytes);
    let tag = draw.percent(60).then(|| format!("t{}", draw.below(20)));
    let reference = tag.clone().unwrap_or_else(|| digest.to_string());
    let media_type = if is_image { MediaType::OCI_MANIFEST } else { MediaType::OCI_INDEX };
    let request = Request::new("PUT", own.path(&format!("manifests/{reference}")));
    let request = request.header("Content-Type", media_type.as_str()).body(bytes.clone());
    let repository = own.repository.clone();
    let sent = {
        let mut book = client.world.book.lock().unwrap();
        if let Some(tag) = &tag {
            book.tagging(&repository, tag, Some(digest));
        }
        book.tick()
    };
    let Some(answer) = client.ask(&request) else { return };
    if answer.status == 201 {
        let mut book = client.world.book.lock().unwrap();
        book.acknowledge((repository.clone(), digest), Sort::Manifest, children, sent);
        tag.iter().for_each(|tag| book.tagged(&repository, tag, Some(digest)));
        let artifact_type = artifact_type.filter(|_| is_image);
        own.manifests.push(Held { digest, size: bytes.len(), subject: subject.map(|held| held.digest), artifact_type });
        return;
    }
    tag.iter().for_each(|tag| client.world.book.lock().unwrap().not_tagged(&repository, tag));
    // An image without one of its blobs is refused, as it must be.
    let is_complete = !is_image || children.iter().all(|child| own.is_there(client, *child));
    if is_complete && !is_excused(&answer) {
        let told = brief(&answer.body);
        client.world.fault(&format!("a manifest was refused: {} {told}", answer.status), &request.bytes());
    }
}

fn read_blob(client: &mut Client, own: &mut Own, draw: &mut Draw) {
    let Some((digest, bytes)) = draw.one(&own.blobs).cloned() else { return };
    let place = (own.repository.clone(), digest);
    let before = client.world.book.lock().unwrap().since(&place);
    let request = Request::new(draw.pick(&["GET", "HEAD"]), own.path(&format!("blobs/{digest}")));
    let is_head = request.method == b"HEAD";
    let (one, other) = (draw.below(bytes.len()), draw.below(bytes.len()));
    let (from, to) = (one.min(other), one.max(other));
    let is_part = !is_head && !bytes.is_empty() && draw.percent(60);
    let request = if is_part { request.header("Range", format!("bytes={from}-{to}")) } else { request };
    let Some(answer) = client.ask(&request) else { return };
    let is_still = before.is_some() && client.world.book.lock().unwrap().since(&place).is_some();
    let is_right = match answer.status {
        200 if is_head => answer.header("content-length") == Some(&bytes.len().to_string()),
        200 => answer.body == *bytes,
        206 => is_part && answer.body == bytes[from..=to],
        404 => !is_still,
        _ => is_excused(&answer),
    };
    if !is_right {
        let told = brief(&answer.body);
        client.world.fault(&format!("a blob that was acknowledged: {} {told}", answer.status), &request.bytes());
    }
}

/// Checks that something acknowledged, in one repository or in any, is still there.
pub fn check(client: &mut Client, draw: &mut Draw, repository: Option<&str>) {
    let expected = client.world.book.lock().unwrap().expected(repository);
    if let Some((place, sort)) = draw.one(&expected) {
        check_one(client, place, *sort);
    }
}

/// Checks that this content is still there, with the right bytes.
pub fn check_one(client: &mut Client, place: &(String, Digest), sort: Sort) {
    let before = client.world.book.lock().unwrap().since(place);
    let word = if sort == Sort::Blob { "blobs" } else { "manifests" };
    let request = Request::new("GET", format!("/v2/{}/{word}/{}", place.0, place.1));
    let Some(answer) = client.ask(&request) else { return };
    let is_still = before.is_some() && client.world.book.lock().unwrap().since(place).is_some();
    let is_right = match answer.status {
        200 => place.1.matches(&answer.body),
        404 => !is_still,
        _ => is_excused(&answer),
    };
    if !is_right {
        let told = brief(&answer.body);
        client.world.fault(&format!("acknowledged and lost: {} {told}", answer.status), &request.bytes());
    }
}

/// Checks that every tag names a possible root, and that the tag list, page by page, has all of them.
pub fn tags(client: &mut Client, own: &Own, draw: &mut Draw) {
    let tags = client.world.book.lock().unwrap().tags(&own.repository);
    if let Some((tag, named)) = draw.one(&tags) {
        check_tag(client, &own.repository, tag, named);
    }
    let path = own.path("tags/list");
    let path = if draw.percent(60) { format!("{path}?n={}", 1 + draw.below(30)) } else { path };
    let Some(listed) = pages(client, path, "tags") else { return };
    let listed: Vec<&str> = listed.iter().filter_map(Value::as_str).collect();
    for (tag, named) in &tags {
        let is_listed = listed.contains(&tag.as_str());
        let is_right = if is_listed { named.iter().any(Option::is_some) } else { named.contains(&None) };
        if !is_right {
            client
                .world
                .fault(&format!("tag {tag} of {}: listed {is_listed}, may name {named:?}", own.repository), &[]);
        }
    }
}

pub fn check_tag(client: &mut Client, repository: &str, tag: &str, named: &[Option<Digest>]) {
    let request = Request::new("GET", format!("/v2/{repository}/manifests/{tag}"));
    let Some(answer) = client.ask(&request) else { return };
    let found = answer.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
    let is_right = match answer.status {
        200 => named.contains(&found),
        404 => named.contains(&None),
        _ => is_excused(&answer),
    };
    if !is_right {
        client.world.fault(&format!("tag names {found:?} ({}), may name {named:?}", answer.status), &request.bytes());
    }
}

/// Checks that every acknowledged referrer is listed.
fn referrers(client: &mut Client, own: &Own, draw: &mut Draw) {
    let with_subject: Vec<_> = own.manifests.iter().filter(|held| held.subject.is_some()).cloned().collect();
    let Some(held) = draw.one(&with_subject).cloned() else { return };
    let place = (own.repository.clone(), held.digest);
    let before = client.world.book.lock().unwrap().since(&place);
    let Some(subject) = held.subject else { return };
    let path = own.path(&format!("referrers/{subject}"));
    let path = match held.artifact_type.filter(|_| draw.percent(50)) {
        Some(wanted) => format!("{path}?artifactType={}", wanted.replace('+', "%2B")),
        None => path,
    };
    let Some(listed) = pages(client, path.clone(), "manifests") else { return };
    let is_still = before.is_some() && own.is_there(client, held.digest);
    let digest = held.digest.to_string();
    if is_still && !listed.iter().any(|node| node["digest"] == digest) {
        client.world.fault(&format!("{digest} is not listed at {path}"), &[]);
    }
}

/// All entries of a list. None if one page could not be read.
pub fn pages(client: &mut Client, mut path: String, key: &str) -> Option<Vec<Value>> {
    let mut all = Vec::new();
    for _ in 0..MAX_PAGES {
        let request = Request::new("GET", &path);
        let answer = client.ask(&request)?;
        if answer.status != 200 {
            // A repository without content.
            if answer.status != 404 && !is_excused(&answer) {
                client.world.fault(&format!("a list was refused: {}", answer.status), &request.bytes());
            }
            return None;
        }
        let page: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        all.extend(page[key].as_array().cloned().unwrap_or_default());
        let Some(link) = answer.header("link") else { return Some(all) };
        path = link.split_once('<')?.1.split_once('>')?.0.to_owned();
    }
    client.world.fault(&format!("{path}: a list without an end"), &[]);
    None
}

fn remove(client: &mut Client, own: &mut Own, draw: &mut Draw) {
    let repository = own.repository.clone();
    let mut is_certain = false;
    let (request, tag) = match draw.below(3) {
        0 if !own.blobs.is_empty() => {
            let (digest, _) = own.blobs.swap_remove(draw.below(own.blobs.len()));
            (Request::new("DELETE", own.path(&format!("blobs/{digest}"))), None)
        }
        1 if !own.manifests.is_empty() => {
            let held = own.manifests.swap_remove(draw.below(own.manifests.len()));
            client.world.book.lock().unwrap().untagging(&repository, held.digest);
            (Request::new("DELETE", own.path(&format!("manifests/{}", held.digest))), None)
        }
        _ => {
            let tag = format!("t{}", draw.below(20));
            is_certain = client.world.book.lock().unwrap().tagging(&repository, &tag, None);
            (Request::new("DELETE", own.path(&format!("manifests/{tag}"))), Some(tag))
        }
    };
    let Some(answer) = client.ask(&request) else { return };
    if is_certain && answer.status == 404 {
        client.world.fault("a tag that was acknowledged was not there to be removed", &request.bytes());
    }
    match (answer.status, tag) {
        (202 | 404, Some(tag)) => client.world.book.lock().unwrap().tagged(&repository, &tag, None),
        (202 | 404 | 405, _) => {}
        (other, _) if !is_excused(&answer) => {
            client.world.fault(&format!("a removal was refused: {other}"), &request.bytes());
        }
        _ => {}
    }
}
