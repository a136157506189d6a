//! The HTTP client: TLS and plain HTTP, redirects, logins, bad links.

mod client;
mod links;
mod logins;
mod own_certificates;
mod plain_http;
mod plain_http_race;
mod redirects;
