//! Changed requests, alone and several at once.

use autonomy_registry::oci::Digest;

use super::book::Sort;
use super::client::{Client, Manner};
use super::draw::Draw;
use super::grammar::{self, Known};
use super::mutate;
use super::request::Request;
use super::wire::Answer;

/// Sends the next request.
pub fn step(client: &mut Client, known: &mut Known, draw: &mut Draw) {
    client.side = draw.below(2);
    let count = if draw.percent(88) { 1 } else { 2 + draw.below(5) };
    let (mut raw, mut heads, mut requests) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        let mut request = grammar::base(draw, known, &client.world.credentials);
        let changes = if draw.percent(25) { 0 } else { 1 + draw.below(3) };
        (0..changes).for_each(|_| mutate::change(draw, &mut request));
        let mut bytes = request.bytes();
        // A request without framing sometimes has a body all the same.
        if request.framing == super::request::Framing::None && !request.body.is_empty() {
            bytes.extend_from_slice(&request.body);
        }
        if changes > 0 && draw.percent(25) {
            mutate::change_bytes(draw, &mut bytes);
        }
        heads.push(bytes.starts_with(b"HEAD "));
        raw.extend_from_slice(&bytes);
        requests.push(request);
    }
    let manner = match draw.below(100) {
        0..4 => Manner::Cut(draw.below(raw.len())),
        4..7 => Manner::Slowly,
        _ => Manner::AtOnce,
    };
    let sent = client.world.book.lock().unwrap().tick();
    let answers = client.throw(draw, &raw, &heads, manner);
    for answer in &answers {
        learn(client, known, answer, &requests, sent);
    }
    known.trim();
}

/// Notes the facts in an answer: upload sessions, and new content.
fn learn(client: &Client, known: &mut Known, answer: &Answer, requests: &[Request], sent: u64) {
    let Some(location) = answer.header("location") else { return };
    if answer.status == 202 {
        known.uploads.push(location.to_owned());
        return;
    }
    let Some((place, sort)) = created(answer, location) else { return };
    // The size is known if this request sent the bytes; a wrong size still makes useful requests.
    let (name, digest) = place.clone();
    let size = requests.iter().find(|request| digest.matches(&request.body)).map_or(7, |request| request.body.len());
    client.world.book.lock().unwrap().acknowledge(place, sort, Vec::new(), sent);
    match sort {
        Sort::Blob => known.blobs.push((digest, size)),
        Sort::Manifest => known.manifests.push((digest, size)),
    }
    if !known.repositories.contains(&name) && known.repositories.len() < 12 {
        known.repositories.push(name);
    }
}

/// The created place according to the server's Location.
pub fn created(answer: &Answer, location: &str) -> Option<((String, Digest), Sort)> {
    let path = location.strip_prefix("/v2/").filter(|_| answer.status == 201)?;
    let (before, digest) = path.rsplit_once('/')?;
    let (name, word) = before.rsplit_once('/')?;
    let sort = if word == "blobs" { Sort::Blob } else { Sort::Manifest };
    Some(((name.to_owned(), digest.parse().ok()?), sort))
}
