//! Named tests out of data: one a recorded case.

use anyhow::Result;
use libtest_mimic::{Failed, Trial};

/// What a test does.
pub type Test = fn() -> Result<()>;

/// A test of that name. Without root it is reported as ignored, never as passed.
pub fn trial(name: String, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    // The alternate form of an anyhow error has its causes too.
    let test = move || test().map_err(|error| Failed::from(format!("{error:#}")));
    Trial::test(name, test).with_ignored_flag(!nix::unistd::geteuid().is_root())
}
