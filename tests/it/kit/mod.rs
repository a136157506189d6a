//! Set-up that tests of several subjects share: registries, servers, and the program itself.

pub(crate) mod asking;
pub(crate) mod bundle_bed;
pub(crate) mod command;
pub(crate) mod files;
pub(crate) mod resident;
pub(crate) mod route;
pub(crate) mod sealed_bed;
pub(crate) mod serve_bed;
pub(crate) mod site_bed;
pub(crate) mod wire_server;
