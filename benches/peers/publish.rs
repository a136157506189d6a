//! Puts a workload's images into the source, once.

use std::collections::{HashMap, HashSet};
use std::io;

use futures_util::StreamExt as _;
use testkit::connection::Connection;
use tokio::runtime::Handle;

use crate::image::Content;
use crate::plan::{Task, Verb, plan};
use crate::workload::{Before, Workload};

/// A source that gets images when workloads need them.
#[derive(Debug, Default)]
pub(crate) struct Publisher {
    published: HashSet<String>,
}

impl Publisher {
    /// # Panics
    ///
    /// If the source refuses.
    pub(crate) fn publish(&mut self, runtime: &Handle, host: &str, workload: &Workload) {
        if let Before::Holding(former) = &workload.before {
            let entries = vec![former.clone()];
            self.publish(runtime, host, &Workload { entries, before: Before::Nothing, ..workload.clone() });
        }
        let is_new = |name: &String| !self.published.contains(name);
        let entries = workload.entries.iter();
        let entries: Vec<_> =
            entries.filter(|entry| is_new(&format!("{}:{}", entry.repository, entry.tag))).cloned().collect();
        let nodes = entries.iter().flat_map(|entry| &entry.image.nodes);
        let contents: HashMap<_, _> = nodes.map(|node| (node.descriptor.digest.to_string(), &node.content)).collect();
        let mut before = workload.before.clone();
        if matches!(before, Before::Everything) {
            before = Before::Nothing;
        }
        let workload = Workload { entries: entries.clone(), before, ..workload.clone() };
        let mut connection = Connection::open(host).unwrap();
        for task in plan(&workload) {
            put(runtime, &mut connection, &task, contents[&task.digest]).unwrap();
        }
        self.published.extend(entries.into_iter().map(|entry| format!("{}:{}", entry.repository, entry.tag)));
    }
}

fn put(runtime: &Handle, connection: &mut Connection, task: &Task, content: &Content) -> io::Result<()> {
    let Task { repository, digest, size, .. } = task;
    let (path, media_type) = match (task.verb, task.detail.split_once('|')) {
        (Verb::Manifest, Some((name, media_type))) => (format!("/v2/{repository}/manifests/{name}"), media_type),
        _ => {
            let mount =
                if task.verb == Verb::Mount { format!("?mount={digest}&from={}", task.detail) } else { String::new() };
            let opened = connection.ask("POST", &format!("/v2/{repository}/blobs/uploads/{mount}"))?;
            if task.verb == Verb::Mount && opened.status == 201 {
                return Ok(());
            }
            let location = opened.location.ok_or_else(|| io::Error::other(format!("{task}: {}", opened.status)))?;
            let mark = if location.contains('?') { '&' } else { '?' };
            (format!("{location}{mark}digest={digest}"), "application/octet-stream")
        }
    };
    connection.begin("PUT", &path, &format!("Content-Type: {media_type}\r\nContent-Length: {size}\r\n"))?;
    match content {
        Content::Bytes(bytes) => connection.send(bytes)?,
        Content::Layer(layer) => {
            let inside = runtime.enter();
            let mut pieces = layer.open();
            drop(inside);
            while let Some(piece) = runtime.block_on(pieces.next()) {
                connection.send(&piece.map_err(io::Error::other)?)?;
            }
        }
    }
    let answer = connection.answer("PUT")?;
    if answer.status == 201 { Ok(()) } else { Err(io::Error::other(format!("{task}: {}", answer.status))) }
}
