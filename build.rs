//! Link arguments of the program.

use std::env;
use std::process::Command;

/// glibc reads packed relocations since this version. A program that has them does not start with an older one, so a
/// machine with an older one builds without them.
const PACKED: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is_native = env::var_os("HOST") == env::var_os("TARGET");
    if is_native && glibc().is_some_and(|version| version >= PACKED) {
        // Half a megabyte less of the program is read into memory, as it is all read at the start.
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Returns the version of this machine's glibc, if the target uses it.
fn glibc() -> Option<(u32, u32)> {
    env::var_os("CARGO_CFG_TARGET_ENV").filter(|libc| libc == "gnu")?;
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let told = String::from_utf8(told.stdout).ok()?;
    let (major, minor) = told.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
