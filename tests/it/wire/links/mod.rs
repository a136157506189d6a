//! Bad links and busy hosts: which requests are retried after a break, which waits are accepted, and which are not.

mod download;
mod hostile;
mod outage;
mod pace;
mod rate;
mod upload;

use autonomy_registry::oci::{Descriptor, MediaType};
use autonomy_registry::store::{Registry, Role};
use autonomy_registry::wire::Client;

use crate::kit::wire_server::repository;

const MIB: usize = 1 << 20;

/// Bytes without a repeating pattern.
fn content(size: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()
    };
    (0..size.div_ceil(4)).flat_map(|_| next()).take(size).collect()
}

fn layer(bytes: &[u8]) -> Descriptor {
    Descriptor::of(MediaType::OCI_LAYER, bytes)
}

fn registry(client: &Client, host: &str, role: Role) -> Registry {
    Registry::new(client, &repository(host, "a/b"), role)
}
