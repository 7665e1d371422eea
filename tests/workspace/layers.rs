//! What each crate may know.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata};

use crate::{assert_none, metadata};

/// What one crate of the workspace may depend on. Dependencies that only its tests have do not count.
struct Layer {
    name: &'static str,
    /// The workspace's crates that it may use, directly or through others.
    may_use: &'static [&'static str],
    /// Other crates that it may not have, directly or through others.
    never: &'static [&'static str],
    /// Other crates that it may not name itself.
    never_directly: &'static [&'static str],
    /// Why, for whoever broke the rule.
    why: &'static str,
}

/// Crates that make errors and arguments convenient for programs, and vague for libraries.
const FOR_PROGRAMS: &[&str] = &["anyhow", "clap", "indicatif", "comfy-table", "tracing-subscriber"];

const LAYERS: &[Layer] = &[
    Layer {
        name: "jobq-proto",
        may_use: &[],
        never: &[
            "tokio",
            "tokio-util",
            "mio",
            "socket2",
            "futures",
            "ciborium",
            "rusqlite",
            "rustix",
            "tracing",
            "jiff",
        ],
        never_directly: &["getrandom", "rand", "rand_chacha", "anyhow", "clap"],
        why: "jobq-proto says what travels; it has no I/O, tasks, clocks, randomness or codec, so that a simulator, \
              a store and another transport can use it",
    },
    Layer {
        name: "jobq-transport",
        may_use: &["jobq-proto"],
        never: &[
            "rusqlite",
            "anyhow",
            "clap",
            "indicatif",
            "comfy-table",
            "tracing-subscriber",
        ],
        never_directly: &[],
        why: "jobq-transport carries messages and does not know what a job is, so that server, client and worker \
              share it",
    },
    Layer {
        name: "jobq-client",
        may_use: &["jobq-proto", "jobq-transport"],
        never: &["rusqlite"],
        never_directly: FOR_PROGRAMS,
        why: "jobq-client talks to a server over a transport and does not contain one, so that a program that only \
              submits does not build a database",
    },
    Layer {
        name: "jobq-worker",
        may_use: &["jobq-proto", "jobq-transport", "jobq-client"],
        never: &["rusqlite"],
        never_directly: FOR_PROGRAMS,
        why: "jobq-worker runs handlers on top of the client's session and does not contain a server",
    },
    Layer {
        name: "jobq-server",
        may_use: &["jobq-proto", "jobq-transport"],
        never: &["anyhow", "clap", "indicatif", "comfy-table", "tracing-subscriber"],
        never_directly: &["ciborium", "tokio-serde"],
        why: "jobq-server knows neither its clients' code nor the codec, never looks into params, and can be \
              embedded in any program",
    },
    Layer {
        name: "jobq-cli",
        may_use: &[
            "jobq-proto",
            "jobq-transport",
            "jobq-client",
            "jobq-worker",
            "jobq-server",
        ],
        never: &[],
        never_directly: &["rusqlite", "tokio-serde"],
        why: "jobq-cli is put together from the libraries and reaches past none of them",
    },
    Layer {
        name: "jobq-examples",
        may_use: &[
            "jobq-proto",
            "jobq-transport",
            "jobq-client",
            "jobq-worker",
            "jobq-server",
        ],
        never: &[],
        never_directly: &["jobq-proto", "jobq-transport"],
        why: "jobq-examples shows what a user's program needs: client, worker and server say all of it",
    },
    Layer {
        name: "jobq-tests",
        may_use: &[
            "jobq-proto",
            "jobq-transport",
            "jobq-client",
            "jobq-worker",
            "jobq-server",
        ],
        never: &[],
        never_directly: &[],
        why: "jobq-tests starts the binary as a process; cargo builds it for the test target of jobq-cli only",
    },
    Layer {
        name: "jobq-benches",
        may_use: &["jobq-proto", "jobq-transport", "jobq-server"],
        never: &[],
        never_directly: &["rusqlite", "ciborium"],
        why: "jobq-benches measures codec, machine and store through the types that the server uses them by",
    },
    Layer {
        name: "jobq-peers",
        may_use: &[],
        never: &["tokio", "rusqlite"],
        never_directly: &[],
        why: "jobq-peers gives other queues the work of jobq bench, and runs that as a program like theirs",
    },
];

/// Each crate and the crates that it is built from.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// What the crates `members` depend on against the layers' rules.
fn violations(members: &[&str], graph: &Graph, layers: &[Layer]) -> Vec<String> {
    let mut found = Vec::new();
    for member in members {
        let Some(layer) = layers.iter().find(|layer| layer.name == *member) else {
            found.push(format!(
                "{member} has no layer: say in LAYERS what it may use, and why"
            ));
            continue;
        };
        let direct = graph.get(*member).cloned().unwrap_or_default();
        for (used, path) in reached_from(member, graph) {
            let of_workspace = members.contains(&used.as_str());
            let forbidden = (of_workspace && !layer.may_use.contains(&used.as_str()))
                || layer.never.contains(&used.as_str())
                || (layer.never_directly.contains(&used.as_str()) && direct.contains(&used));
            if forbidden {
                found.push(format!("{member} may not use {used} ({path}): {}", layer.why));
            }
        }
    }
    found
}

/// Every crate that `start` is built from, with a shortest way to it.
fn reached_from(start: &str, graph: &Graph) -> BTreeMap<String, String> {
    let mut reached = BTreeMap::new();
    let mut next = vec![(start.to_owned(), start.to_owned())];
    while !next.is_empty() {
        let mut further = Vec::new();
        for (name, path) in next {
            for used in graph.get(&name).into_iter().flatten() {
                if used != start && !reached.contains_key(used) {
                    let path = format!("{path} -> {used}");
                    reached.insert(used.clone(), path.clone());
                    further.push((used.clone(), path));
                }
            }
        }
        next = further;
    }
    reached
}

/// The graph of what is linked: dependencies of tests and of build scripts are left out.
fn graph_of(metadata: &Metadata) -> Graph {
    let resolve = metadata
        .resolve
        .as_ref()
        .expect("cargo metadata resolves unless told not to");
    let name = |id| metadata[id].name.to_string();
    let mut graph = Graph::new();
    for node in &resolve.nodes {
        let used = graph.entry(name(&node.id)).or_default();
        for dep in &node.deps {
            if dep
                .dep_kinds
                .iter()
                .any(|kind| kind.kind == DependencyKind::Normal)
            {
                used.insert(name(&dep.pkg));
            }
        }
    }
    graph
}

#[test]
fn the_workspace_keeps_to_its_layers() {
    let metadata = metadata();
    let packages = metadata.workspace_packages();
    let members: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    assert!(members.len() >= LAYERS.len(), "a layer has no crate: {members:?}");
    assert_none(&violations(&members, &graph_of(&metadata), LAYERS));
}

const LOW: Layer = Layer {
    name: "low",
    may_use: &[],
    never: &["sockets"],
    never_directly: &["random"],
    why: "low is at the bottom",
};
const HIGH: Layer = Layer {
    name: "high",
    may_use: &["low"],
    never: &[],
    never_directly: &[],
    why: "high is at the top",
};

fn found(edges: &[(&str, &str)]) -> Vec<String> {
    let mut graph = Graph::new();
    for (user, used) in edges {
        graph
            .entry((*user).to_owned())
            .or_default()
            .insert((*used).to_owned());
    }
    violations(&["low", "high"], &graph, &[LOW, HIGH])
}

#[test]
fn what_a_layer_may_use_is_no_violation() {
    assert_none(&found(&[
        ("high", "low"),
        ("high", "sockets"),
        ("low", "uuid"),
        ("uuid", "random"),
    ]));
}

#[test]
fn a_lower_crate_that_uses_a_higher_one_is_caught_with_the_reason() {
    let found = found(&[("low", "high")]);
    assert_eq!(
        found,
        ["low may not use high (low -> high): low is at the bottom"]
    );
}

#[test]
fn a_banned_crate_is_caught_through_another_one() {
    let found = found(&[("low", "innocent"), ("innocent", "sockets")]);
    assert_eq!(
        found,
        ["low may not use sockets (low -> innocent -> sockets): low is at the bottom"]
    );
}

#[test]
fn a_crate_that_may_not_be_named_is_caught_where_it_is() {
    assert_eq!(found(&[("low", "random")]).len(), 1);
}

#[test]
fn a_crate_without_a_layer_is_caught() {
    let found = violations(&["stray"], &Graph::new(), &[LOW, HIGH]);
    assert!(
        found.len() == 1 && found[0].contains("stray has no layer"),
        "{found:?}"
    );
}
