//! The embedded server: its requests, its limits, its memory, and what is left after it was killed.

mod acknowledged;
mod attacked;
mod blobs;
mod bounds;
mod cut;
mod fairness;
mod faults;
mod folder;
mod full;
mod fuzz;
mod hooks;
mod index_memory;
mod kill;
mod manifests;
mod memory;
mod other_content;
mod read_only;
mod site;
mod tls;
