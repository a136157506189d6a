//! The fault matrix: every kind of request in a verified seed, against every fault seen in the field, at servers that
//! imitate the three most common registries.
//!
//! Each cell is a whole seed through the engine. It ends in one of two ways. Done: the destination's tag names the source's
//! digest and every byte on its disk is right. Refused with the expected failure: the tag still names its old digest, and
//! no document is there. `expected` holds the table.

mod cell;
mod expected;
mod field;
mod resume;

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use self::cell::{Cell, Outcome};
use self::expected::expected;
use self::field::{Mode, Source};

/// The kinds of request, each as one particular request of the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum On {
    BlobGet,
    BlobHead,
    Post,
    BlobPut,
    TagGet,
    ManifestGet,
    TagHead,
    ManifestPut,
    TagPut,
    Referrers,
    Token,
}

impl On {
    const ALL: [Self; 11] = [
        Self::BlobGet,
        Self::BlobHead,
        Self::Post,
        Self::BlobPut,
        Self::TagGet,
        Self::ManifestGet,
        Self::TagHead,
        Self::ManifestPut,
        Self::TagPut,
        Self::Referrers,
        Self::Token,
    ];
}

/// The faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Wrong {
    UnavailableOnce,
    UnavailableThrice,
    UnavailableAlways,
    BusySeconds,
    BusyDate,
    ResetBefore,
    ResetInside,
    ResetAfter,
    Slow,
    LengthOnce,
    LengthAlways,
    FlipOnce,
    FlipAlways,
    Redirect,
    HtmlOnce,
    HtmlAlways,
}

impl Wrong {
    const ALL: [(Self, &str); 16] = [
        (Self::UnavailableOnce, "503 once"),
        (Self::UnavailableThrice, "503 three times"),
        (Self::UnavailableAlways, "503 for ever"),
        (Self::BusySeconds, "429, seconds"),
        (Self::BusyDate, "429, a date"),
        (Self::ResetBefore, "reset before"),
        (Self::ResetInside, "reset inside"),
        (Self::ResetAfter, "reset after"),
        (Self::Slow, "trickle"),
        (Self::LengthOnce, "wrong length"),
        (Self::LengthAlways, "wrong length for ever"),
        (Self::FlipOnce, "flipped bit"),
        (Self::FlipAlways, "flipped bit for ever"),
        (Self::Redirect, "another host"),
        (Self::HtmlOnce, "web page"),
        (Self::HtmlAlways, "web page for ever"),
    ];
}

/// Concurrent cells: most of their time they wait.
const CELLS: usize = 16;

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the test command shows the table")]
async fn every_request_may_go_wrong_in_every_way_at_every_registry() {
    let mut sources = Vec::new();
    for mode in Mode::ALL {
        sources.push(Arc::new(Source::publish(mode).await));
    }
    let cells = On::ALL.into_iter().flat_map(|on| Wrong::ALL.into_iter().map(move |(wrong, _)| (on, wrong)));
    let cells = cells.flat_map(|(on, wrong)| sources.iter().map(move |source| (on, wrong, Arc::clone(source))));
    let ran = cells.enumerate().map(|(number, (on, wrong, source))| async move {
        let mode = source.mode;
        let outcome = match Cell::set(on, wrong, &source).await {
            // Each in a task of its own, so that several run in parallel.
            Some(cell) => tokio::spawn(cell.run()).await.unwrap(),
            None => Outcome::none(),
        };
        (number, (on, wrong, mode, outcome))
    });
    let mut ran: Vec<_> = stream::iter(ran).buffer_unordered(CELLS).collect().await;
    ran.sort_by_key(|(number, _)| *number);
    let ran: Vec<_> = ran.into_iter().map(|(_, cell)| cell).collect();
    let mut amiss = Vec::new();
    for three in ran.chunks(Mode::ALL.len()) {
        let (on, wrong) = (three[0].0, three[0].1);
        let name = Wrong::ALL.iter().find(|(own, _)| *own == wrong).map_or("", |(_, name)| name);
        let mut line = format!("table: fault {:<12} {name:<22}", format!("{on:?}"));
        for (_, _, mode, outcome) in three {
            let right = expected(on, wrong, *mode);
            let is_right = outcome.told == right && outcome.amiss.is_empty();
            line += &format!(" {} {:<12}", mode.name(), outcome.told);
            if !is_right {
                let told = format!("{on:?} {wrong:?} {mode:?}: {}, expected {right}", outcome.told);
                amiss.push(format!("{told}\n  {}\n  {}", outcome.chain, outcome.amiss.join("\n  ")));
            }
        }
        println!("{}", line.trim_end());
    }
    let (total, count) = (ran.len(), ran.iter().filter(|(.., outcome)| outcome.is_some()).count());
    println!("table: fault cells {count} of {total}, the others have no such request or no such body");
    assert!(amiss.is_empty(), "{} of {count} cells:\n{}", amiss.len(), amiss.join("\n"));
}
