//! `registry seed`, the whole program: what moves, what is skipped, and what the destination has at the end.

mod accessories;
mod deep;
mod dry_run;
mod matrix;
mod outage;
mod refusals;
mod rewrite;
mod seed;
mod subset;
mod tag_race;
mod tag_state;
mod verified;
