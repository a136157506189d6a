//! Bad links and busy hosts: what is sent again after a break, what is waited for, and what is not.

mod download;
mod hostile;
mod pace;
mod upload;

use autonomy_registry::oci::{Descriptor, MediaType};
use autonomy_registry::store::{Registry, Role};
use autonomy_registry::wire::Client;

use crate::wire_server::repository;

const MIB: usize = 1 << 20;

/// Bytes that look the same nowhere.
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
