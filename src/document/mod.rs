//! What users and auditors read and write: pure data with one check each.
