#pragma once
// What the TCP store's peers say to each other; every frame begins with one of these letters.

#include <cstddef>
#include <string_view>

namespace dujiang::comm::frames {

inline constexpr std::string_view magic = "dujiang store 1";
inline constexpr std::size_t stranger_limit = 256;     ///< bytes of a hello
inline constexpr std::size_t request_limit = 70'000;   ///< a value and its key
inline constexpr std::size_t answer_limit = 1U << 30;  ///< a list

// From a rank. Requests carry a number that their answer repeats.
inline constexpr char hello = 'H';     ///< magic, rank, size, token
inline constexpr char confirm = 'C';   ///< the rank is there
inline constexpr char set = 'S';       ///< number, key, value
inline constexpr char get = 'G';       ///< number, key
inline constexpr char list = 'L';      ///< number, prefix
inline constexpr char remove = 'R';    ///< number, key
inline constexpr char farewell = 'F';  ///< number

// From the server.
inline constexpr char welcome = 'W';      ///< now confirm
inline constexpr char ready = 'Y';        ///< now ask
inline constexpr char wrong_token = 'T';  ///< why
inline constexpr char refused = 'N';      ///< why: the token is right, the rank or the size isn't
inline constexpr char answer = 'A';       ///< number, then key and value as often as they are found
inline constexpr char gone = 'X';         ///< rank
inline constexpr char ended = 'E';        ///< key, value
inline constexpr char closing = 'B';      ///< the store ends in order

}  // namespace dujiang::comm::frames
