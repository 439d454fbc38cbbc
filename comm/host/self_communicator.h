#pragma once
// Transport `self`: one rank. Every reduction is a copy, made before the call returns.

#include <memory>

#include "comm/communicator.h"

namespace dujiang::comm {

std::unique_ptr<Communicator> make_self_communicator();

}  // namespace dujiang::comm
