//! Serves a folder as an OCI registry, inside of this process.
//!
//! Run `cargo run --example serve -- /tmp/images` and push with any client. Ctrl-C stops it.
#![expect(clippy::print_stdout, reason = "an example says what it does")]

use std::net::SocketAddr;
use std::path::PathBuf;

use autonomy_registry::Result;
use autonomy_registry::serve::{ServeOptions, Server};

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("images"), PathBuf::from);
    // Port 0 takes a free one. Beyond loopback, give `tls` and `htpasswd` too.
    let options = ServeOptions::new(&folder, SocketAddr::from(([127, 0, 0, 1], 0)));
    let server = Server::bind(options).await?;
    println!("serving {} at {}", folder.display(), server.url());
    // Requests in flight are finished after the shutdown future is ready.
    let interrupted = async { drop(tokio::signal::ctrl_c().await) };
    server.run(interrupted).await
}
