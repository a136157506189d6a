//! Hostile registries, hostile content and hostile folders: whatever they send, a run ends, within its memory, and moves no tag.

mod data_folder;
mod destinations;
mod limits;
mod servers;
mod sources;
mod tamper;
mod words;
