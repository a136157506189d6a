//! How each cell has to end, by reasoning and not by trying; what was found to be otherwise was mended in the program.

use super::field::Mode;
use super::{On, Wrong};

/// In the order of [`On::ALL`] and [`Wrong::ALL`]: `.` for done, `-` where there is no such cell, and a failure by its first
/// letter (`u`navailable, `c`orrupt, `i`nvalid, `d`enied, `n`ot found, `m`issing children).
///
/// - What may pass is tried up to five times. What is damaged is fetched again, and up to three times.
/// - An answer with a length other than its body's breaks off. An answer to HEAD, or the one to a blob of a known size,
///   contradicts the manifest. Nobody reads the body of an answer that says that something was stored.
/// - A page in place of an answer is somebody else's, who may be gone at the next try: there are up to three.
/// - What is no token, or no list, is asked for once more, as nothing else tells that it was damaged. A page in place of a
///   list of referrers, twice, comes from a registry without the Referrers API.
/// - An upload session that is not found, because its place was damaged or is on another host, is begun anew.
/// - A page in answer to a mount says that mounts are not understood; it is asked plainly then.
/// - A length, a digest or a page in answer to the HEAD of a tag only means that it is not known what the tag names now.
/// - Another host that takes a write has it and the destination has not: what is missing is put again, except under the
///   tag, by then everything has been verified. zot calls that manifest invalid. A token of another service opens nothing.
const TABLE: [(Wrong, &str); 16] = [
    //                         blob     |  tag GET
    //                         GET HEAD |  |  by digest
    //                         |  POST  |  |  |  tag HEAD
    //                         |  |  PUT|  |  |  |  manifest PUT, tag PUT, referrers, token
    (Wrong::UnavailableOnce, "..........."),
    (Wrong::UnavailableThrice, "..........."),
    (Wrong::UnavailableAlways, "uuuuuuuuuuu"),
    (Wrong::BusySeconds, "..........."),
    (Wrong::BusyDate, "..........."),
    (Wrong::ResetBefore, "..........."),
    (Wrong::ResetInside, ".--...-...."),
    (Wrong::ResetAfter, "..........."),
    (Wrong::Slow, "..........."),
    (Wrong::LengthOnce, "..........."),
    (Wrong::LengthAlways, "cc..uc...uu"),
    (Wrong::FlipOnce, "..........."),
    (Wrong::FlipAlways, "c.nccc.c-ii"),
    (Wrong::Redirect, "......o.m.d"),
    (Wrong::HtmlOnce, "..........."),
    (Wrong::HtmlAlways, "cu.uuc.uu.i"),
];

/// How it has to end.
pub(super) fn expected(on: On, wrong: Wrong, mode: Mode) -> &'static str {
    // Without the API the question is answered by 404: whatever its body looks like, that is the answer.
    if on == On::Referrers && mode != Mode::Zot && matches!(wrong, Wrong::LengthAlways | Wrong::FlipAlways) {
        return "done";
    }
    // A page says that there is no API, and zot keeps no fallback tag: what only the API lists is not found.
    if on == On::Referrers && mode == Mode::Zot && wrong == Wrong::HtmlAlways {
        return "untrusted";
    }
    let column = On::ALL.iter().position(|own| *own == on).unwrap();
    let row = TABLE.iter().find(|(own, _)| *own == wrong).unwrap().1;
    match row.as_bytes()[column] {
        b'.' => "done",
        b'u' => "unavailable",
        b'c' => "corrupt",
        b'i' => "invalid",
        b'd' => "denied",
        b'o' => "other",
        b'n' => "not-found",
        b'm' if mode == Mode::Zot => "invalid",
        b'm' => "incomplete",
        _ => "-",
    }
}
