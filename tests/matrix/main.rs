#![allow(clippy::unwrap_used, dead_code, unused_imports, missing_docs)]
#[path = "../it/attack.rs"]
mod attack;
#[path = "../it/hostile.rs"]
mod hostile;
#[path = "../it/hostile_words.rs"]
mod hostile_words;
#[path = "../it/images/mod.rs"]
mod images;
#[path = "../it/matrix/mod.rs"]
mod matrix;
#[path = "../it/resident.rs"]
mod resident;
#[path = "../it/seed.rs"]
mod seed;
#[path = "../it/serve.rs"]
mod serve;
#[path = "../it/serve_faults.rs"]
mod serve_faults;
#[path = "../it/wire_server.rs"]
mod wire_server;
