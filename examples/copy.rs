//! Copies an image with everything below its index from one registry to another. It verifies digests, not signatures.
//!
//! Run `cargo run --example copy -- 127.0.0.1:5000/app:v1 127.0.0.1:5001/app:v1`.
#![expect(clippy::print_stdout, reason = "an example says what it does")]

use std::sync::Arc;

use autonomy_registry::copy::{Events, Job, Options, Target, copy};
use autonomy_registry::oci::Reference;
use autonomy_registry::store::{Registry, Role, Store};
use autonomy_registry::wire::{self, Client};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [from, to] = &arguments[..] else { return Err("usage: copy FROM TO".into()) };
    let (from, to): (Reference, Reference) = (from.parse()?, to.parse()?);

    // Plain HTTP only between registries on this machine.
    let allow_plain_http = from.repository.is_loopback() && to.repository.is_loopback();
    let client = Client::new(wire::ClientOptions { allow_plain_http, ..wire::ClientOptions::default() })?;
    let source = Registry::new(&client, &from.repository, Role::Source);
    let destination = Registry::new(&client, &to.repository, Role::Sink);

    // The tag is resolved once; everything after that goes by digest.
    let root = source.fetch(&from.name()).await?;
    let digest = root.node.digest;
    let target = Target { node: root.node, bytes: Some(root.bytes), tags: to.tag.into_iter().collect(), former: None };
    let job = Job::new(Arc::new(source), Arc::new(destination), vec![target]);
    let report = copy(&job, &Options::default(), &Events::none()).await?;
    println!("copied {digest}: {} manifests, {} bytes moved", report.manifests, report.bytes_moved);
    Ok(())
}
