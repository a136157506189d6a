//! Trust: decides whether an image may be shown to a site. Reads stores, never writes.
