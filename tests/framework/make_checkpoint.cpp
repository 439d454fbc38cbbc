// For tests/hf/check_files.py: make_checkpoint FOLDER trains a tiny model for a few steps in FOLDER, removed first, and
// leaves its checkpoints in FOLDER/run/checkpoints, and texts.jsonl with {"text": ...} a line.

#include <nlohmann/json.hpp>

#include "comm/host/self_communicator.h"
#include "framework/train/trainer.h"
#include "tests/framework/synthetic.h"

using namespace dujiang;
using namespace dujiang::test;

int main(int argc, char** argv) {
  try {
    if (argc != 2) fail_user("usage: make_checkpoint FOLDER");
    const std::filesystem::path folder = argv[1];
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    write_synthetic_data(folder);
    auto config = tiny_config(folder, "run");
    config.train.steps = 3;
    config.train.precision = train::Precision::bf16;
    const auto self = comm::make_self_communicator();
    train::train(config, {}, *self);
    std::ofstream texts(folder / "texts.jsonl");
    for (std::uint64_t d = 0; d < 20; ++d)
      texts << nlohmann::json{{"text", synthetic_document(1000 + d, d % 2 == 0 ? 3 : 77)}}.dump() << "\n";
    for (const char* text : {"", " ", "a  b\n\n c\t", "鲁迅：“从来如此，便对么？”\n——《狂人日记》", "𠮷野家 😀 e\u0301"})
      texts << nlohmann::json{{"text", text}}.dump() << "\n";
    DUJIANG_CHECK(texts.flush(), "{}: cannot be written", (folder / "texts.jsonl").string());
  } catch (const Error& error) {
    fmt::print(stderr, "make_checkpoint: {}\n", error.what());
    return error.exit_status();
  }
}
