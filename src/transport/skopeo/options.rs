//! Settings for running skopeo, and the ends of a copy.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::oci::Reference;
use crate::retry::{Outages, Retry};
use crate::transport::LocationScheme;

/// Settings for running skopeo.
#[derive(Debug, Clone)]
pub struct Options {
    /// Credentials, in docker's or podman's format. Default none: skopeo looks where we look (contract §10).
    pub authfile: Option<PathBuf>,
    /// Certificates to trust beside the system's, PEM. Default none.
    pub ca_file: Option<PathBuf>,
    /// A folder with a folder of certificates for each host, before `/etc/containers/certs.d` and `/etc/docker/certs.d`.
    /// Default none.
    pub cert_dir: Option<PathBuf>,
    /// The environment of this process, of which [`PASSED_ON`](super::PASSED_ON) is passed on. Default none of it.
    pub environment: Vec<(OsString, OsString)>,
    /// How often a copy is retried after a transient error. Content that arrived before is not sent again.
    pub retry: Retry,
    /// The outages of the run, which the native client shares. Default those of a run with a default [`Retry`].
    pub outages: Outages,
}

impl Default for Options {
    fn default() -> Self {
        let retry = Retry::default();
        let (environment, outages) = (Vec::new(), retry.outages());
        Self { authfile: None, ca_file: None, cert_dir: None, environment, retry, outages }
    }
}

/// The source or destination of a copy.
#[derive(Debug, Clone)]
pub struct End {
    /// The reference. The source is read by digest if it has one; the destination is put under its tag if it has one.
    pub reference: Reference,
    /// The scheme of its registry.
    pub scheme: LocationScheme,
}
