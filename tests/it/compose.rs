//! `docker-compose.yml` and the `Dockerfile` without an engine: their syntax, and what goes wrong when nobody looks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use maturion::config::Config;
use yaml_rust2::{Yaml, YamlLoader};

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn compose() -> Yaml {
    let mut documents = YamlLoader::load_from_str(&file("docker-compose.yml")).unwrap();
    assert_eq!(documents.len(), 1);
    documents.remove(0)
}

/// The entries of a mapping; none if there is no such key.
fn entries(yaml: &Yaml) -> Vec<(&str, &Yaml)> {
    let pairs = yaml.as_hash().into_iter().flatten();
    pairs.map(|(key, value)| (key.as_str().unwrap(), value)).collect()
}

fn texts(yaml: &Yaml) -> Vec<&str> {
    yaml.as_vec().into_iter().flatten().map(|item| item.as_str().unwrap()).collect()
}

/// A service's environment, numbers as text.
fn environment(service: &Yaml) -> BTreeMap<String, String> {
    let text = |value: &Yaml| match value {
        Yaml::Integer(number) => number.to_string(),
        other => other.as_str().unwrap().to_owned(),
    };
    entries(&service["environment"]).into_iter().map(|(name, value)| (name.to_owned(), text(value))).collect()
}

/// Services that go on, as opposed to the one that creates the topics and ends.
fn lasting(compose: &Yaml) -> Vec<(&str, &Yaml)> {
    entries(&compose["services"]).into_iter().filter(|(name, _)| *name != "topics").collect()
}

#[test]
fn the_production_shape_is_complete() {
    let compose = compose();
    let names: BTreeSet<&str> = entries(&compose["services"]).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, BTreeSet::from(["grafana", "kafka", "maturion", "postgres", "topics"]));
    for (name, service) in lasting(&compose) {
        assert!(!texts(&service["healthcheck"]["test"]).is_empty(), "{name} has a health check");
        assert_eq!(service["restart"].as_str(), Some("unless-stopped"), "{name}");
    }
}

#[test]
fn images_are_pinned_and_ports_stay_on_the_machine() {
    for (name, service) in entries(&compose()["services"]) {
        let image = service["image"].as_str().unwrap();
        let (_, tag) = image.split_once(':').unwrap();
        let pinned = tag.matches('.').count() >= 1 && tag.starts_with(|first: char| first.is_ascii_digit());
        assert!(pinned || image == "maturion:local", "{name}: {image}");
        for port in texts(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
        }
    }
}

#[test]
fn every_volume_is_named_mounted_and_used() {
    let compose = compose();
    let declared: BTreeSet<&str> = entries(&compose["volumes"]).into_iter().map(|(name, _)| name).collect();
    let services = entries(&compose["services"]);
    let mounted = services.iter().flat_map(|(_, service)| texts(&service["volumes"]));
    let mounted: BTreeSet<&str> = mounted.map(|mount| mount.split_once(':').unwrap().0).collect();
    assert_eq!(declared, mounted);
    let kafka = &compose["services"]["kafka"];
    let folder = &environment(kafka)["KAFKA_LOG_DIRS"];
    assert!(texts(&kafka["volumes"]).iter().any(|mount| mount.ends_with(folder)), "the log outlives the container");
}

#[test]
fn dependencies_wait_for_health() {
    let compose = compose();
    for (name, service) in entries(&compose["services"]) {
        for (needed, condition) in entries(&service["depends_on"]) {
            let expected = if needed == "topics" { "service_completed_successfully" } else { "service_healthy" };
            assert_eq!(condition["condition"].as_str(), Some(expected), "{name} needs {needed}");
            assert!(!compose["services"][needed].is_badvalue(), "{name} needs {needed}");
        }
    }
}

#[test]
fn secrets_come_from_outside() {
    for (service, settings) in entries(&compose()["services"]) {
        for (name, value) in environment(settings) {
            let secret = ["PASSWORD", "TOKEN", "SECRET"].iter().any(|part| name.ends_with(part));
            assert!(!secret || value.starts_with("${") && value.contains(":?"), "{service}: {name}");
        }
    }
}

#[test]
fn it_is_the_kafka_that_the_tests_start() {
    let compose = compose();
    let image = compose["services"]["kafka"]["image"].as_str().unwrap();
    let script = file("scripts/kafka");
    let version = script.lines().find_map(|line| line.strip_prefix("version=")).unwrap();
    assert_eq!(image, format!("apache/kafka:{version}"));
}

/// With one setting given, the image ignores its own defaults; Kafka's are for three nodes.
#[test]
fn one_kafka_node_has_all_it_needs_for_transactions() {
    let compose = compose();
    let kafka = environment(&compose["services"]["kafka"]);
    assert_eq!(kafka["KAFKA_PROCESS_ROLES"], "broker,controller");
    assert_eq!(kafka["KAFKA_CONTROLLER_QUORUM_VOTERS"], format!("{}@kafka:9093", kafka["KAFKA_NODE_ID"]));
    let single = [
        "TRANSACTION_STATE_LOG_REPLICATION_FACTOR",
        "TRANSACTION_STATE_LOG_MIN_ISR",
        "OFFSETS_TOPIC_REPLICATION_FACTOR",
    ];
    for name in single {
        assert_eq!(kafka[&format!("KAFKA_{name}")], "1", "{name}");
    }
    let protocols = &kafka["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"];
    for listener in kafka["KAFKA_LISTENERS"].split(',').map(|listener| listener.split_once("://").unwrap().0) {
        assert!(protocols.contains(&format!("{listener}:")), "{listener}");
    }
    // What a base64 of 16 bytes looks like: the only form that formatting the storage accepts.
    assert_eq!(kafka["CLUSTER_ID"].len(), 22);
}

#[test]
fn maturion_accepts_its_settings_and_finds_kafka() {
    let compose = compose();
    for name in ["topics", "maturion"] {
        let mut environment = environment(&compose["services"][name]);
        environment.entry("MATURION_TOKEN".to_owned()).and_modify(|token| *token = "secret".to_owned());
        let config = Config::load(None, &environment).unwrap();
        let brokers = format!("{:?}", config.kafka.brokers);
        assert!(brokers.contains("kafka:9092"), "{brokers}");
    }
    let advertised = &environment(&compose["services"]["kafka"])["KAFKA_ADVERTISED_LISTENERS"];
    assert!(advertised.contains("://kafka:9092"), "{advertised}");
}

#[test]
fn the_image_runs_as_nobody_special() {
    let dockerfile = file("Dockerfile");
    let (_, last_stage) = dockerfile.rsplit_once("\nFROM ").unwrap();
    assert!(last_stage.contains("\nUSER maturion\n"));
    assert!(last_stage.contains("ENTRYPOINT [\"maturion\"]"));
    assert!(dockerfile.contains("--locked"));
    let ignored = file(".dockerignore");
    assert!(ignored.lines().any(|line| line == ".env"), "secrets stay out of the image");
}
