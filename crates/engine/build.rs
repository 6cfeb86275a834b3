//! Compiles the one piece of C that must run before `main`.

fn main() {
    println!("cargo:rerun-if-changed=src/wait_policy.c");
    // The whole archive: nothing refers to a constructor by name, so the linker would leave it out.
    cc::Build::new()
        .file("src/wait_policy.c")
        .link_lib_modifier("+whole-archive")
        .compile("jarvis_wait_policy");
}
