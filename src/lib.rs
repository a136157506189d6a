//! Replicates container images between registries, proves what it moved, and serves them at the edge.
//!
//! # Floors
//!
//! A module imports only from lower floors; modules on one floor do not see each other (except on floor 0). The test
//! `floors` reads the imports of every file and fails on an upward or sideways one.
//!
//! ```text
//! floor 11 cli  fuzzing
//! floor 10 terminal
//! floor 9  observe
//! floor 8  workflow
//! floor 7  seed
//! floor 6  transport
//! floor 5  copy  verify  serve
//! floor 4  store
//! floor 3  wire
//! floor 2  keychain  spool  http_server  trust  render
//! floor 1  document  disk  journal  retry  named_certificates
//! floor 0  oci  error  clock  sync  stream  quantity
//! ```
//!
//! Each module has a border: `oci` knows no HTTP and no files; `disk`, `keychain`, `wire` and `http_server` know no
//! images; `trust` knows no store and no I/O; `document` and `render` know no I/O; `spool` knows no stores; `store`
//! knows no seeds; `copy` knows neither verification nor HTTP nor files; `verify` and `serve` do not know the engine;
//! `transport` does not know the command line; `seed` and `workflow` know neither clap nor terminals; `terminal` knows no
//! commands; `observe` does not know the engine's internals.
//!
//! # As a library
//!
//! ```
//! use std::sync::Arc;
//! use autonomy_registry::copy::{Events, Job, Options, Target, copy};
//! use autonomy_registry::oci::{Descriptor, MediaType};
//! use autonomy_registry::store::{self, Memory, Store};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> autonomy_registry::Result<()> {
//! let (source, sink) = (Arc::new(Memory::default()), Arc::new(Memory::default()));
//! let bytes = br#"{"schemaVersion":2,"manifests":[]}"#;
//! let node = Descriptor::of(MediaType::OCI_INDEX, bytes);
//! store::put_bytes(source.as_ref(), &node, &bytes[..], &[]).await?;
//!
//! let target = Target { node: node.clone(), bytes: None, tags: vec![], former: None };
//! let job = Job::new(source, sink.clone(), vec![target]);
//! let report = copy(&job, &Options::default(), &Events::none()).await?;
//! assert_eq!((report.manifests, report.bytes_moved), (1, node.size));
//! assert!(sink.contains(&node).await?);
//! # Ok(())
//! # }
//! ```

pub mod cli;
pub mod clock;
pub mod copy;
mod disk;
pub mod document;
pub mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod http_server;
mod journal;
pub mod keychain;
mod named_certificates;
pub mod observe;
pub mod oci;
pub mod quantity;
mod render;
pub mod retry;
mod seed;
pub mod serve;
pub mod spool;
pub mod store;
mod stream;
mod sync;
mod terminal;
pub mod transport;
pub mod trust;
pub mod verify;
pub mod wire;
pub mod workflow;

pub use error::{Error, Kind, Result, Side};
