//! Whole pods: the images of the Dockerfile and the manifests of `deploy/`, run by `pod/kubelet.py`; unmodified agents, real
//! servers over TLS, real name resolution, a real collector. `make test-pod`; `make test` leaves it out, for it needs podman,
//! images and minutes.
#![allow(missing_docs, reason = "a test's name is its documentation")]
#![allow(clippy::unwrap_used, reason = "a test that fails here says where")]

/// The parts that tests of the program are made of. rustfmt finds them by the path alone.
#[path = "it"]
mod it {
    #[allow(dead_code, unused_imports, reason = "tests/it.rs uses the rest")]
    pub(crate) mod support;
}

mod pod {
    mod deployed;
    mod images;
    mod manifest;
    mod world;

    mod classic;
    mod ends;
    mod forward;
    mod inbound;
    mod measure;
    mod native;
    mod several;
    mod sidecar;
    mod users;
}
