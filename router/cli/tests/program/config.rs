//! Mistakes in the configuration file, as `allerac serve` reports them. All kinds are in the unit tests of `config`.

use crate::support::Home;

#[test]
fn a_mistake_names_file_line_and_key() {
    let home = Home::new();
    let path = home.config("listen = \"127.0.0.1:0\"\n[engine]\nthreads = \"four\"\n");
    let ran = home.run(&["serve", "--config", &path]);
    ran.refused(2, &format!("{path}, line 3: `engine.threads`: invalid type"), "correct the configuration file");
    let path = home.config("\n\nlisten_on = 1\n");
    home.run(&["serve", "--config", &path]).refused(2, &format!("{path}, line 3: `listen_on`: unknown field"), "");
    let path = home.config("[engine\n");
    home.run(&["serve", "--config", &path]).refused(2, &format!("{path}, line 1"), "");
}

#[test]
fn settings_of_attention_that_do_not_go_together_are_explained() {
    let home = Home::new();
    let path = home.config("[engine]\nflash_attention = \"off\"\nkv_type_v = \"q8_0\"\n");
    let ran = home.run(&["serve", "--config", &path]);
    ran.refused(2, "values of type q8_0 need flash attention, which is off", "flash_attention to auto or on");
}

#[test]
fn processors_that_the_machine_lacks_are_named() {
    let home = Home::new();
    let path = home.config("[engine]\ncpus = \"1022-1023\"\n");
    home.run(&["serve", "--config", &path]).refused(
        2,
        "run on the processors 1022-1023, and this machine has 0",
        "cpus",
    );
}

#[test]
fn what_the_file_points_to_must_be_there() {
    let home = Home::new();
    home.run(&["serve", "--config", "/nowhere/allerac.toml"]).refused(3, "/nowhere/allerac.toml", "--config");
    let upstream = "[[upstream]]\nname = \"gpu\"\nbase_url = \"http://127.0.0.1:1/v1\"\nmodels = [\"m\"]\n";
    let path = home.config(&format!("{upstream}key_file = \"gpu.key\"\n"));
    home.run(&["serve", "--config", &path]).refused(3, "the key of upstream gpu", "key_file");
    let path = home.config(&format!("{upstream}key_env = \"ALLERAC_NO_SUCH_VARIABLE\"\n"));
    home.run(&["serve", "--config", &path]).refused(2, "ALLERAC_NO_SUCH_VARIABLE", "key_env");
    let path = home.config("[engine]\nbinary = \"/nowhere/allerac-engine\"\n");
    home.run(&["serve", "--config", &path]).refused(3, "/nowhere/allerac-engine is no program", "make build");
}
