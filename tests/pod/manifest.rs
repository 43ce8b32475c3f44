//! Manifests as a user makes them: an overlay over one of `deploy/`, rendered by kustomize.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::images::{OURS, ours};
use super::world::World;
use crate::it::support::root;

/// An overlay of `tests/pod/overlays`, and what a test adds to it.
#[derive(Debug)]
pub(crate) struct Manifest {
    overlay: &'static str,
    patches: Vec<String>,
}

impl Manifest {
    pub(crate) fn of(overlay: &'static str) -> Self {
        Self { overlay, patches: Vec::new() }
    }

    /// A patch of the template's spec, in YAML: a strategic merge, so that lists merge by name.
    pub(crate) fn with(mut self, spec: &str) -> Self {
        self.patches.push(spec.to_owned());
        self
    }

    /// The manifest, and behind it what is in the cluster already: the company's roots and its authority for pods.
    pub(crate) fn render(&self, world: &World) -> String {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-overlay", world.name));
        std::fs::create_dir_all(&folder).unwrap();
        let overlay = relative(&folder, &root().join("tests/pod/overlays").join(self.overlay));
        let mut text = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [{overlay}]\nimages:\n"
        );
        for name in OURS {
            writeln!(text, "  - {{name: {name}, newName: {}}}", ours(name)).unwrap();
        }
        if !self.patches.is_empty() {
            text.push_str("patches:\n");
        }
        for patch in &self.patches {
            // The kind is the target's, whatever it has become.
            let head = "apiVersion: any\nkind: any\nmetadata: {name: agent}\nspec:\n  template:\n    spec:\n";
            let indented = |text: &str, by: &str| text.lines().map(|line| format!("{by}{line}\n")).collect::<String>();
            let patch = format!("{head}{}", indented(patch, "      "));
            write!(text, "  - target: {{name: agent}}\n    patch: |-\n{}", indented(&patch, "      ")).unwrap();
        }
        std::fs::write(folder.join("kustomization.yaml"), &text).unwrap();
        let kubectl = root().join("target/tools/kube/bin/kubectl");
        let output = Command::new(kubectl)
            .arg("kustomize")
            .arg(&folder)
            .output()
            .expect("kubectl is missing: `make tools` installs it");
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        let file = |name: &str| std::fs::read_to_string(world.internet.path(name)).unwrap();
        let roots = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "company-roots"},
            "data": {"root.pem": file("root.pem")},
        });
        let authority = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sidetrace-ca"}, "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": file("authority.crt"), "tls.key": file("authority.key")},
        });
        format!("{}\n---\n{roots}\n---\n{authority}\n", String::from_utf8(output.stdout).unwrap())
    }
}

/// Kustomize takes no absolute paths.
fn relative(from: &Path, to: &Path) -> String {
    let (from, to) = (from.canonicalize().unwrap(), to.canonicalize().unwrap());
    let up = from.components().skip(1).map(|_| "..").collect::<Vec<_>>().join("/");
    format!("{up}/{}", to.strip_prefix("/").unwrap().display())
}
