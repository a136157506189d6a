//! Stores: the contract of all of them, the registry store against scripted answers, the data folder and the spool.

mod broken_lists;
mod contract;
mod data_check;
mod fallback;
mod gc;
mod registry;
mod spool;
mod strange_entries;
