//! Links the program to fixed addresses.
//!
//! At addresses that change with each start, the loader writes tens of thousands of pointers before anything runs: pages that every
//! process then has for itself, where the node proxy's memory is counted in single megabytes. Go's programs do the same.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-no-pie");
}
