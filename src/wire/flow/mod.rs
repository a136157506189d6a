//! How fast requests and bytes flow, and when a transfer counts as stuck.

pub(super) mod link;
pub(super) mod rate_limit;
pub(super) mod request_body;
pub(super) mod slow_stream;
pub(super) mod stats;
pub(super) mod throttle;
pub(super) mod upload_watch;
