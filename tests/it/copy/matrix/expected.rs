//! The expected end of each cell, by reasoning and not by trying; where a run differed, the program was fixed.

use super::field::Mode;
use super::{On, Wrong};

/// In the order of [`On::ALL`] and [`Wrong::ALL`]: `.` for done, `-` where there is no such cell, and a failure by its first
/// letter (`u`navailable, `c`orrupt, `i`nvalid, `d`enied, `n`ot found, `m`issing children).
///
/// - Outages are waited for, other transient failures are tried up to five times, damaged content up to three times.
/// - A response with a wrong content length breaks off. A wrong length in a response to HEAD, or in a GET of a blob of
///   known size, contradicts the manifest. The body of a response that confirms a write is not read.
/// - An HTML page in place of a response comes from something in between and may be gone at the next try: there are up to
///   three.
/// - An invalid token or list is requested once more, since nothing else shows damage. Two pages in place of a referrers
///   list mean a registry without the Referrers API.
/// - An upload session that is not found, because its location was damaged or is on another host, is begun anew.
/// - A page in answer to a mount means that mounts are not supported; a plain upload follows.
/// - A wrong length, a wrong digest or a page in answer to the HEAD of a tag only means that the tag's current digest is
///   unknown.
/// - If another host takes a write, the destination lacks the content, which is put again; except under the tag, since by
///   then everything has been verified. zot answers that the manifest is invalid. A token of another service grants nothing.
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

/// The expected end.
pub(super) fn expected(on: On, wrong: Wrong, mode: Mode) -> &'static str {
    // Without the API the answer is 404, whatever its body looks like.
    if on == On::Referrers && mode != Mode::Zot && matches!(wrong, Wrong::LengthAlways | Wrong::FlipAlways) {
        return "done";
    }
    // A page means that there is no API, and zot keeps no fallback tag: referrers known only to the API are not found.
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
