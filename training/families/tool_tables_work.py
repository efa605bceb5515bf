"""Tools for files, servers, shops, groups and games. For what a ! in a domain means, see
tool_tables_more."""

from __future__ import annotations

from training.families.tool_shapes import Param, Tool

WORK_TOOLS: tuple[Tool, ...] = (
    Tool(
        "files",
        "read_file|open_file|cat_file|get_file|load_file",
        "Read a file|Get the content of a file|Show what is in a file",
        (Param("path|file|filename|file_name", "file"),),
        "Read the file {a}.|What is in {a}?|Show me {a}.|Open {a}.|Print the content of {a}.|Let me"
        " see the file {a}.|What does {a} say?|cat {a}|Can you read {a} for me?",
        "Show me what is in {a}.|Can you open the file {a}?|Read {a}, please.",
        "content:text",
    ),
    Tool(
        "files",
        "delete_file|remove_file|rm|erase_file",
        "Delete a file|Remove a file from the disk",
        (Param("path|file|filename|name", "file"),),
        "Delete {a}.|Remove the file {a}.|Erase {a}, please.|I do not need {a} any more. Delete it."
        "|rm {a}|Get rid of {a}.|Can you delete {a}?|The file {a} can go.|Throw {a} away.",
        "Please remove {a}.|Can you get rid of the file {a}?|Delete the file {a}, please.",
    ),
    Tool(
        "files",
        "list_files|ls|list_directory|show_files|dir",
        "List the files of a folder|Show what files are there",
        (Param("folder|directory|path|dir", "made_up"),),
        "Which files are there?|List the files in {a}.|Show all files.|What is in the folder {a}?|"
        "ls|List all files, please.|Which files are in {a}?|What files do I have?|Show the folder "
        "{a}.",
        "Show me the files in {a}.|What files are there?|List the files in the folder {a}.",
        "files:list:file",
    ),
    Tool(
        "shell",
        "run_command|execute_command|shell|bash|terminal",
        "Run a shell command|Execute a command in the terminal",
        (Param("command|cmd|line", "enum:ls,pwd,whoami,date,uptime,df,top,make,ps"),),
        "Run {a}.|Execute the command {a}.|Run {a} in the shell.|Type {a} in the terminal.|What "
        "does {a} print?|Start {a} in the terminal.|Please run the command {a}.",
        "Execute {a} in the terminal.|Please run {a}.|Run the command {a} in the shell.",
        is_kept_back=True,
    ),
    Tool(
        "tickets",
        "create_ticket|open_issue|report_bug|file_bug|create_issue",
        "Report a bug|Open a ticket|Create an issue",
        (
            Param("title|summary|subject", "title"),
            Param("priority|severity|level", "enum:low,medium,high"),
        ),
        "Report a bug: {a}|Open a ticket called {a}.|Create an issue {a} with {b} priority.|File a "
        "{b} priority bug: {a}|New issue: {a}, priority {b}|There is a bug: {a}. Report it.|Make a "
        "ticket {a} with priority {b}.|I found a bug. Title: {a}, priority {b}",
        "Open an issue: {a}|Create a ticket called {a} with {b} priority.|Report a {b} priority "
        "bug: {a}",
    ),
    Tool(
        "orders",
        "get_order_status|track_order|order_status|check_order|where_is_order",
        "Get the status of an order|Track an order",
        (Param("order_id|id|order|number|order_number", "code"),),
        "Where is my order {a}?|What is the status of order {a}?|Track order {a}.|Has order {a} "
        "been shipped?|Status of {a}?|When will my order {a} come?|Check order {a}, please.|Is {a} "
        "on its way?|My order number is {a}. Where is it?",
        "Where is order {a}?|Check the status of my order {a}.|Has my order {a} been shipped?",
        "status:state",
        bare="Where is my order?|Track my order.|What is the status of my order?",
        kept_bare="Where is it, my order?|Check my order, please.",
    ),
    Tool(
        "shop",
        "search_products|find_products|product_search|search_shop",
        "Search products in the shop|Find articles to buy",
        (
            Param("query|product|text|name", "product"),
            Param("max_price|price_limit|budget|up_to", "int:5:900"),
        ),
        "I want to buy a {a}.|Do you sell a {a}?|Find a {a} for less than {b}.|Show me a {a} under "
        "{b}.|I am looking for a {a}.|Is there a {a} in the shop?|I need a {a} for at most {b}.|"
        "Search the shop for {a}.",
        "I am looking for a {a} under {b}.|Do you sell a {a} for less than {b}?|Show me a {a}.",
        "products:list:made_up",
    ),
    Tool(
        "cart",
        "add_to_cart|put_in_cart|cart_add|add_product",
        "Add a product to the cart|Put an article into the basket",
        (
            Param("product|item|article|name", "product"),
            Param("quantity|amount|count|number", "int:2:12"),
        ),
        "Put the {a} in my cart.|Add {b} of the {a} to the cart.|Add the {a} to my basket.|I take "
        "the {a}. Add it to the cart.|Cart: {a}|{a} into the cart, please.|Put {b} times {a} in the"
        " cart.",
        "Add the {a} to my cart.|Please put {b} of the {a} in my cart.|Put the {a} into the "
        "basket.",
    ),
    Tool(
        "server",
        "restart_server|reboot_server|reboot|restart_host",
        "Restart a server|Reboot a machine",
        (Param("server|host|name|hostname|machine", "host"),),
        "Restart {a}.|Reboot the server {a}.|{a} hangs. Restart it.|Please reboot {a}.|Can you "
        "restart {a}?|Do a reboot of {a}.|The machine {a} needs a restart.|Restart server {a} now.",
        "Please restart the server {a}.|Can you reboot {a}?|{a} needs a reboot.",
    ),
    Tool(
        "server",
        "get_cpu_load|cpu_usage|server_load|get_load",
        "Get the CPU load of a server|How busy a machine is",
        (Param("server|host|name|hostname|machine", "host"),),
        "How busy is {a}?|What is the load on {a}?|CPU load of {a}?|Show the load of {a}.|Is {a} "
        "under load?|How much CPU does {a} use?|What is the CPU usage of {a}?|Check the load of "
        "{a}.",
        "Show me the CPU load of {a}.|What is the load of {a}?|Is {a} busy?",
        "cpu_percent:int:1:100",
    ),
    Tool(
        "user",
        "create_user|add_user|new_user|register_user",
        "Create a user account|Register a new user",
        (
            Param("name|username|full_name", "name"),
            Param("email|mail|email_address", "email"),
            Param("admin|is_admin|is_superuser", "bool:yes,no"),
        ),
        "Create a user {a} with the email {b}.|Add a user: name {a}, email {b}|Register {a} with "
        "{b}.|New user {a}, {b}, admin: {c}|Make an account for {a} ({b}).|Create an account for "
        "{a}, email {b}, admin {c}.|Sign up {a} with the address {b}.",
        "Register a new user {a} with the email {b}.|Create an account for {a}, email {b}.|Add a "
        "user {a} with {b}, admin: {c}",
    ),
    Tool(
        "dice",
        "roll_dice|roll_die|throw_dice|dice",
        "Roll dice|Throw a die",
        (Param("sides|num_sides|faces", "int:4:20"), Param("count|times|rolls", "int:2:6")),
        "Roll a die with {a} sides.|Throw a {a} sided die.|Roll a die with {a} sides {b} times.|"
        "Throw {b} dice with {a} sides.|Roll {b} dice with {a} sides each.|A {a} sided die, please."
        "|Can you roll a {a} sided die?",
        "Throw a die with {a} sides.|Roll a {a} sided die {b} times.|Can you throw {b} dice with "
        "{a} sides?",
        "sum:int:1:60",
    ),
    Tool(
        "coin",
        "flip_coin|toss_coin|coin_flip|heads_or_tails",
        "Flip a coin|Toss a coin",
        (),
        "Flip a coin.|Heads or tails?|Toss a coin for me.|Throw a coin.|coin flip|Can you toss a "
        "coin?|Let a coin decide.|Please flip a coin for us.",
        "Can you flip a coin?|Toss a coin, please.|Throw a coin for me.",
        "side:enum:heads,tails",
        is_kept_back=True,
    ),
    Tool(
        "random",
        "random_number|get_random_number|generate_random|pick_number|rand_int",
        "Pick a random number|Get a random number between two bounds",
        (Param("min|low|from|start", "int:0:20"), Param("max|high|to|end", "int:21:999")),
        "Give me a random number between {a} and {b}.|Pick a number from {a} to {b}.|Random number "
        "between {a} and {b}?|Draw a number from {a} to {b}.|Choose any number between {a} and {b}."
        "|I need a random number from {a} to {b}.|random {a} to {b}",
        "Pick a random number from {a} to {b}.|I need any number between {a} and {b}.|Give me a "
        "number from {a} to {b}.",
        "number:int:1:99",
    ),
    Tool(
        "recipe",
        "find_recipe|get_recipe|search_recipes|recipe_search",
        "Find a recipe with some ingredients|Search recipes by ingredients",
        (Param("ingredients|items|foods|with", "list:item"),),
        "What can I cook with {a}?|Find a recipe with {a}.|I have {a}. What can I cook?|Recipe with"
        " {a}, please.|What can I make from {a}?|Give me a recipe that uses {a}.|Which dish needs "
        "{a}?",
        "What can I cook from {a}?|Find me a recipe that uses {a}.|Give me a recipe with {a}.",
        "recipe:title",
    ),
    Tool(
        "invite",
        "create_group|new_group|make_team|start_group_chat",
        "Create a group of people|Start a group with members",
        (
            Param("name|group|title|group_name", "title"),
            Param("members|people|users|names", "list:name"),
        ),
        "Create a group {a} with {b}.|Make a team called {a} with {b}.|New group {a}: {b}|Start the"
        " group {a} with the members {b}.|Put {b} into a group called {a}.|{b} form the group {a}.|"
        "I want a group named {a} with {b}.",
        "Make a group called {a} with {b}.|Create a team {a} with the members {b}.|Start a group "
        "named {a} with {b}.",
        is_kept_back=True,
    ),
    Tool(
        "film",
        "get_movie_info|movie_info|film_info|find_movie",
        "Get facts about a film|Look up a movie by title",
        (
            Param("title|movie|film|name", "title"),
            Param("year|released|release_year", "int:1950:2026"),
        ),
        "Tell me about the film {a}.|Who made the movie {a}?|What is the movie {a} about?|Movie "
        "info for {a}, please.|Who plays in {a} from {b}?|Look up the film {a} of {b}.|Is the movie"
        " {a} good?|What is the film {a} from {b} about?",
        "Look up the movie {a}.|Tell me about the film {a} from {b}.|What is the film {a} about?",
        "director:name year:int:1950:2026",
    ),
    Tool(
        "library",
        "borrow_book|lend_book|reserve_book|checkout_book",
        "Borrow a book from the library|Reserve a book",
        (Param("title|book|name|book_title", "title"), Param("author|by|writer", "name")),
        "Borrow the book {a}.|I want to read {a} by {b}.|Reserve the book {a} by {b}.|Get me the "
        "book {a} from the library.|Can I borrow {a} by {b}?|Please borrow {a}.|Lend me the book "
        "{a}, please.",
        "I want to borrow the book {a}.|Can I borrow the book {a} by {b}?|Reserve the book {a}.",
    ),
    Tool(
        "wifi",
        "get_wifi_password|wifi_password|wifi_info|show_wifi",
        "Get the wifi password|Show the password of the wireless network",
        (),
        "What is the wifi password?|How do I get into the wifi?|Tell me the wifi password.|I need "
        "the wifi.|wifi password|Which password has the wifi?|Give me the password for the wifi.",
        "I need the wifi password.|Tell me the password for the wifi.|Show me the wifi password.",
        "password:code",
    ),
    Tool(
        "bmi",
        "log_weight|save_weight|record_weight|track_weight",
        "Record the user's body weight|Log a weight in kg",
        (Param("kg|weight|kilograms|value", "number:45:120"),),
        "I weigh {a} kg.|Log my weight: {a} kg|My weight today is {a}.|Record {a} kg for me.|Write "
        "down that I weigh {a}.|Weight {a} kg|Save my weight, {a} kg.|Today I weigh {a} kilos.",
        "Today I weigh {a} kg.|Record my weight: {a} kg|My weight is {a} kg today.",
    ),
)
