//! One file per task. Resolve once, verify, carry, verify again, tag, write the record.
//!
//! Knows neither the command line nor terminals: takes values, tells events, gives back a value.

mod record;

pub use record::Record;
