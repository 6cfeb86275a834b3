//! The seeds of the fuzz targets, replayed: hand-made ones and those that a fuzzer kept because they reach
//! what no other reaches. `fuzz/` has the targets, CONTRIBUTING how to run them.

use std::{fs, path::Path};

#[expect(
    unreachable_pub,
    reason = "the same folder is a library in the crate of the fuzz targets"
)]
#[expect(clippy::expect_used, reason = "a check fails by panicking")]
mod properties;

#[test]
fn every_seed_of_every_target() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    for (target, check) in properties::TARGETS {
        let mut replayed = 0;
        for seed in fs::read_dir(seeds.join(target)).unwrap() {
            let path = seed.unwrap().path();
            println!("{}", path.display());
            check(&fs::read(path).unwrap());
            replayed += 1;
        }
        assert!(replayed > 0, "no seed of {target}");
    }
}
