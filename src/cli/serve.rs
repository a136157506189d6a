//! `autonomy registry serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::error::{Error, Kind, Result};
use crate::serve::{Options, Server};

/// Serves a folder as an OCI registry until it is told to stop (Ctrl-C or SIGTERM).
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:5000")]
    listen: SocketAddr,
    /// Folder that holds the images; made if it does not exist
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Answer every write with 405 UNSUPPORTED
    #[arg(long)]
    read_only: bool,
    /// Permit plain HTTP on an address that other machines can reach
    #[arg(long)]
    allow_insecure_registry: bool,
}

impl Serve {
    pub(super) async fn run(self) -> Result<()> {
        if !self.listen.ip().is_loopback() && !self.allow_insecure_registry {
            return Err(Error::new(Kind::Usage, "plain-HTTP registry refused")
                .on(format!("on {}", self.listen))
                .hint("listen on a loopback address, or pass --allow-insecure-registry"));
        }
        let mut options = Options::new(self.data_dir, self.listen);
        options.is_read_only = self.read_only;
        let server = Server::bind(options).await?;
        super::output::line(&format!("listening on http://{}", server.address()));
        server.run(super::interrupted()).await
    }
}
