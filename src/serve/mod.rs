//! An OCI distribution server on one folder.
