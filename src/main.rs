use std::process::ExitCode;

fn main() -> ExitCode {
    match maturion::cli::execute(std::env::args_os()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
