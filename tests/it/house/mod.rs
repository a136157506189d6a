//! The source and its documents: the direction of imports, sizes, corpora, examples, and pages that match the program.

mod corpora;
mod docs;
mod examples;
mod measures;
mod packaging;
mod security_page;
